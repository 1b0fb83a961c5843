"""Write Twitter-GMNER with its gold boxes as Parquet with a dataset card.

python datasets_scripts/build_twitter_gmner.py --data-dir DATA --output OUTPUT
"""

from hf_mner.data.build_program import run_build_program

if __name__ == "__main__":
    print(f"Wrote {run_build_program('twitter_gmner', __doc__)}")

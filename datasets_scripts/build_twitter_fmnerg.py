"""Write Twitter-FMNERG (8 coarse or 51 fine types) with its gold boxes as Parquet with a dataset card.

python datasets_scripts/build_twitter_fmnerg.py --data-dir DATA --output OUTPUT
"""

from hf_mner.data.build_program import run_build_program

if __name__ == "__main__":
    print(f"Wrote {run_build_program('twitter_fmnerg', __doc__)}")

"""Write Twitter-2017 as Parquet with a dataset card.

python datasets_scripts/build_twitter2017.py --data-dir DATA --output OUTPUT
"""

from hf_mner.data.build_program import run_build_program

if __name__ == "__main__":
    print(f"Wrote {run_build_program('twitter2017', __doc__)}")

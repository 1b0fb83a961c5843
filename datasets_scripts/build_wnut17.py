"""Write WNUT-17 as Parquet with a dataset card.

python datasets_scripts/build_wnut17.py --data-dir DATA --output OUTPUT
"""

from hf_mner.data.build_program import run_build_program

if __name__ == "__main__":
    print(f"Wrote {run_build_program('wnut17', __doc__)}")

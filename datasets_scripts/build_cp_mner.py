"""Write CP-MNER (Chinese paintings) as Parquet with a dataset card.

python datasets_scripts/build_cp_mner.py --data-dir DATA --output OUTPUT
"""

from hf_mner.data.build_program import run_build_program

if __name__ == "__main__":
    print(f"Wrote {run_build_program('cp_mner', __doc__)}")

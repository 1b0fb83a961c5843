"""Write CoNLL-2003 (English) as Parquet with a dataset card.

python datasets_scripts/build_conll2003.py --data-dir DATA --output OUTPUT
"""

from hf_mner.data.build_program import run_build_program

if __name__ == "__main__":
    print(f"Wrote {run_build_program('conll2003', __doc__)}")

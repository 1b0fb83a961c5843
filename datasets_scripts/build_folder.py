"""Write your own folder of BIO files, images and boxes as Parquet with a dataset card.

python datasets_scripts/build_folder.py --data-dir FOLDER --output OUTPUT
"""

from hf_mner.data.build_program import run_build_program

if __name__ == "__main__":
    print(f"Wrote {run_build_program('folder', __doc__)}")

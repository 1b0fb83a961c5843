"""The Space: the package's demo, with the models that the variable HF_MNER_DEMO_MODELS names."""

import os

from hf_mner.demo.interface import build_demo, launch_demo
from hf_mner.demo.models import VARIABLE, parse_variable

demo = build_demo(parse_variable(os.environ.get(VARIABLE, "")))

if __name__ == "__main__":
    launch_demo(demo)

"""Two processes are worth two micro-batches: weights perturbed, and a teacher read, in each of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

PROGRAM = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
sys.path[:0] = sys.argv[1:2]
from tiny import tiny_examples, tiny_mmavk, tiny_mmavk_processor
from hf_mner.training.arguments import MnerTrainingArguments
from hf_mner.training.options import leave_processes
from hf_mner.training.trainer import TrustYourTeacherTrainer

folder, kind, mode, accumulation = Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
model, teacher, processor = tiny_mmavk(), tiny_mmavk(seed=5), tiny_mmavk_processor()
for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
args = MnerTrainingArguments(
    output_dir=str(folder), use_cpu=True, disable_tqdm=True, save_strategy="no", optim="sgd", learning_rate=0.01,
    lr_scheduler_type="constant", max_grad_norm=0.0, max_steps=1, per_device_train_batch_size=2,
    gradient_accumulation_steps=accumulation, train_sampling_strategy="sequential",
    awp_start_epoch=0, awp_gamma=0.05, awp_kind=kind, distillation="tyt", teacher_mode=mode,
)
rows = processor.rows(tiny_examples()[:4], label2id=model.config.label2id)
trainer = TrustYourTeacherTrainer(model, args, processing_class=processor, train_dataset=rows, teacher=teacher)
trainer.train()
state = trainer.accelerator.unwrap_model(trainer.model).state_dict()
save_file(state, folder / f"{args.process_index}.safetensors")
leave_processes()
"""


CHECKPOINTED = """
from hf_mner.training.options import RunOptions
options = RunOptions(has_gradient_checkpointing=True).arguments("x")
model = tiny_mmavk()
args = MnerTrainingArguments(
    output_dir=str(folder), use_cpu=True, disable_tqdm=True, save_strategy="no", max_steps=3,
    per_device_train_batch_size=1, train_sampling_strategy="sequential", **options,
)
examples = tiny_examples()
examples[2:] = [{**example, "knowledge": None} for example in examples[2:]]
rows = processor.rows(examples, label2id=model.config.label2id)
TrustYourTeacherTrainer(model, args, processing_class=processor, train_dataset=rows).train()
(folder / f"{args.process_index}.done").touch()
leave_processes()
"""


@pytest.mark.slow  # 15 s
def test_two_processes_compute_activations_twice_where_a_batch_has_no_knowledge(tmp_path):
    head = PROGRAM[: PROGRAM.index("args = ")]
    (tmp_path / "program.py").write_text(head + CHECKPOINTED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = [str(tmp_path / "program.py"), str(Path(__file__).parents[1]), str(tmp_path), "", "", "1"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("*.done")} == {"0.done", "1.done"}


def trained(folder: Path, kind: str, mode: str, processes: int) -> list[dict[str, torch.Tensor]]:
    """Train for one update and return the weights of each process."""
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(folder / "program.py")]
    arguments = [str(Path(__file__).parents[1]), str(folder), kind, mode, str(2 // processes)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [load_file(folder / f"{number}.safetensors") for number in range(processes)]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("published", "offline"), pytest.param("competition", "online", marks=pytest.mark.slow)],  # 10 s and more each
)
def test_two_processes_make_the_update_of_two_micro_batches(tmp_path, kind, mode):
    (alone,) = trained(tmp_path / "alone", kind, mode, 1)
    one, other = trained(tmp_path / "both", kind, mode, 2)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    from tiny import tiny_mmavk

    for name, start in tiny_mmavk().state_dict().items():
        moved = (alone[name] - start).abs().max()
        # float32 sums in another order; a gradient that was averaged once too often would be half as long.
        assert (alone[name] - one[name]).abs().max() <= 1e-3 * moved + 1e-6, name

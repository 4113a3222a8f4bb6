"""Masks of nmg in transformers' Trainer: new for each batch in training, fixed in evaluation.

    python examples/masking_in_trainer.py bert-base-uncased domain.txt idf

The last word is the masking: a name that `nmg maskings` lists, a mixture, or the folder of a run. The folder
`trained` then loads in transformers: pipeline("fill-mask", "trained").
"""

import argparse
from pathlib import Path

from transformers import AutoModelForMaskedLM, AutoTokenizer, Trainer, TrainingArguments

from nmg import MaskingCollator

parser = argparse.ArgumentParser(description="Train a masked LM with masks of nmg in transformers' Trainer.")
parser.add_argument("model", help="hub name or folder")
parser.add_argument("corpus", help="texts: one per line")
parser.add_argument("masking", nargs="?", default="idf", help="name, mixture or folder (default: %(default)s)")
args = parser.parse_args()

tokenizer = AutoTokenizer.from_pretrained(args.model, trust_remote_code=False)
model = AutoModelForMaskedLM.from_pretrained(args.model, trust_remote_code=False)

texts = [line for line in Path(args.corpus).read_text(encoding="utf-8").splitlines() if line.strip()]
rows = [dict(tokenizer(text, truncation=True, max_length=128)) for text in texts]
n_held_out = max(len(rows) // 10, 1)
train, held_out = rows[n_held_out:], rows[:n_held_out]

# Rules count words in `texts`; maskings that read the language model need `model`.
collator = MaskingCollator(tokenizer, masking=args.masking, rate=0.15, seed=0, texts=train, model=model)
arguments = TrainingArguments(
    "trained/checkpoints",
    num_train_epochs=1,
    per_device_train_batch_size=16,
    learning_rate=5e-5,
    report_to=[],
)
trainer = Trainer(
    model,
    arguments,
    data_collator=collator,
    train_dataset=train,
    # The same random masks in every evaluation, whatever the masking in training: eval_loss compares maskings fairly.
    eval_dataset=MaskingCollator(tokenizer, "random").fix(held_out),
)
before = trainer.evaluate()["eval_loss"]
trainer.train()
print(f"masked-LM loss on held-out text: {before:.3f} before, {trainer.evaluate()['eval_loss']:.3f} after")

model.save_pretrained("trained")
tokenizer.save_pretrained("trained")

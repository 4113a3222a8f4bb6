"""English text written for these tests: a domain (pharmacology), general text, and a tokenizer trained on both."""

from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from support.families import BERT_SPECIAL

_DOMAIN = """
Aspirin is an inhibitor of cyclooxygenase, and it lowers the risk of a heart attack in patients with high
blood pressure.

The inhibitor was given to 42 patients at a dose of 75 mg (once daily), but the blood pressure of the others
did not change.

Inhibition of the enzyme by the drug depends on the dose: at 10 mg it is weak, and at 40 mg it is nearly
complete.

In rats, the drug binds to the receptor in the liver and is broken down by an enzyme of the same family.

Warfarin, an anticoagulant, is known for its interactions with other drugs; its dose has to be checked by a
blood test.

The receptor antagonist reduced the heart rate, and the patients who took it had fewer side effects than those
on placebo.

A heart attack is treated with aspirin, an anticoagulant and, where it is possible, with a stent.

Patients with kidney failure should not be given the drug, because its clearance by the kidney is slow.

The agonist activates the receptor, whereas the antagonist blocks it; neither of them is an inhibitor of the
enzyme.

It was shown that the enzyme is inhibited by grapefruit juice, so that the plasma level of the drug rises.

Side effects of the inhibitor were nausea, headache and, in two patients, a fall of blood pressure.

Metformin lowers blood sugar in patients with diabetes, and it has no effect on the heart rate.

The plasma level of the inhibitor was measured by Dr. Elena Rossi in Milan on 3 March 2014 and again in May.

Both the dose and the receptor density in the liver have an influence on the inhibition that is seen.

For the treatment of high blood pressure, an ACE inhibitor is often combined with a diuretic.

The half-life of the antagonist is 6 hours [range 4-9], and that of the agonist is 2 hours.

After a heart attack the enzyme troponin is found in the plasma, and its level tells how large the damage is.

Pfizer and Novartis sell inhibitors of this enzyme in Germany, in France and in the United States.

The kinase inhibitor imatinib is used against leukaemia; its receptor is a kinase that cells of the tumour
need.

When the drug was stopped, the blood pressure of the patients rose, and the heart rate did as well.
"""
_GENERAL = """
The train to London was late again, and most of the people on the platform had given up hope of a seat.

She bought a house by the sea with the money that her grandmother had left to her.

In the second half the team scored twice, but it was not enough to win the match.

It rained for the whole of the week, so the children stayed at home and played cards.

The mayor said on Monday that a new school would be built in the north of the city by next year.

He wrote a letter to the editor about the price of bread, which had risen by a third in a month.

They walked through the park, had a cup of tea, and talked about the film that they had seen.

The museum is open from nine to five, and entry is free for everyone who is under eighteen.

A farmer found the old coins in a field near the river, and gave them to the county.

My brother works for a bank in the city, but he would rather be a cook.

The government has to decide whether the road will be built, and who is going to pay for it.

On the way home we saw a fox that was sitting in the middle of the street.

The band played for two hours, and then came back to sing three more songs.

This book is about a man who lives alone in the woods with his dog and a horse.

There was a queue in front of the shop before it opened, as the new phones had arrived.

The weather in the mountains can change in a few minutes, so take a coat with you.
"""


def _sentences(text: str) -> tuple[str, ...]:
    return tuple(" ".join(lines.split()) for lines in text.split("\n\n"))


DOMAIN = _sentences(_DOMAIN)
"""sentences on drugs; "blood pressure" and "heart attack" occur again and again"""
GENERAL = _sentences(_GENERAL)
"""sentences on anything else"""


@cache
def english_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer, without case, of about 800 pieces; like BERT's it begins with single characters."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = list(BERT_SPECIAL.values())
    trainer = trainers.WordPieceTrainer(vocab_size=800, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(DOMAIN + GENERAL, trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {f"{role}_token": token for role, token in BERT_SPECIAL.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)

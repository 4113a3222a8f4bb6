"""Model types of transformers whose layers the other files of this folder know."""

AFTER_PADDING = {"roberta", "xlm-roberta", "camembert"}
"""BERT-like types that count positions from the padding id + 1."""
BERT_LIKE = {"bert", "electra", "ernie"} | AFTER_PADDING
"""Types whose attention can be replaced. Their last layer adds its residual inside `attention`, and is position-wise
afterwards."""
PURE_ATTENTION = BERT_LIKE | {"distilbert", "modernbert", "albert", "mpnet", "deberta", "deberta-v2"}
"""Types in which padding changes nothing at the other positions."""

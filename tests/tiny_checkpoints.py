"""Models of a few thousand random weights, saved as the `transformers` library saves them."""

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|pad|>", "<extra_0>"]
PLAIN = [chr(c) for c in range(33, 127)] + ["Ġ", "Ċ"]
CORPUS = ["the quick brown fox jumps over the lazy dog and counts to five", "assistant user what is the answer"] * 3


def tokenizer(alphabet=None, template=CHATML):
    """A byte-level tokenizer; of all bytes where no alphabet is given."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = alphabet or pre_tokenizers.ByteLevel.alphabet()
    size = len(alphabet) + len(SPECIAL) + 40
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=list(alphabet), special_tokens=SPECIAL, show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    found = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|pad|>")
    found.chat_template = template
    return found


def save(folder, model_class, *, words=None, labels=None, seed=0, config="LlamaConfig", **fields):
    """A model of two layers with random weights and its tokenizer in `folder`: a Llama, or what `config` names."""
    words = words or tokenizer(PLAIN)
    torch.manual_seed(seed)
    known = getattr(transformers, config)(
        vocab_size=len(words) + 3,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=fields.pop("num_hidden_layers", 2),
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        bos_token_id=None,
        **({"num_labels": labels} if labels else {}),
        **fields,
    )
    made = AutoModelForCausalLM.from_config(known) if model_class is None else model_class(known)
    made.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder

#!/usr/bin/env python3
"""Trains the bundled sample model: tokenizer, data, training, evaluation and GGUF export, in one command.

    train.py --corpus BOOKS.txt[.xz] --work DIR --minutes 60 --output nibble-sample-f16.gguf

The corpus has one paragraph a line and an empty line between books. The rest of the data comes from dialogues.py.
Training can be stopped at any time and goes on from the last checkpoint in the work folder; the time already spent
counts. Needs PyTorch (1.13 or later) and numpy only.
"""
import argparse
import ctypes
import heapq
import json
import lzma
import math
import os
import random
import re
import struct
import sys
import time
import unicodedata
import zlib
from collections import Counter, defaultdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import dialogues

HERE = os.path.dirname(os.path.abspath(__file__))
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
END_OF_TEXT, TURN_START, TURN_END = range(3)
CHAT_TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
                 "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
EXAMPLES = ["Who are you?", "What is the capital of France?", "What is 27 + 14?", "Spell the word garden.",
            "Sort these words: tiger, apple, moon", "Anna is taller than Tom. Who is shorter?",
            "Tell me a short story about a fox.", "What does a cow say? Answer in one word."]
TOKENIZED = ["Hello, world!", "It's 12:30 o'clock  and we'll sing.\n\nThe end", "<|im_start|>user\nWhat is 3 + 4?<|im_end|>\n",
             "  naïve café – “quoted” ½ 猫", "The\tfox_named Rex ran 1000 miles..."]


# ---------------------------------------------------------------- tokenizer: byte-level BPE with GPT-2's split

def character_class(prefix):
    """The characters of a Unicode category, as the inside of a regular expression's brackets."""
    ranges, start = [], None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and unicodedata.category(chr(code)).startswith(prefix)
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            ranges.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = None
    return "".join(ranges)


def split_pattern():
    letter, number = character_class("L"), character_class("N")
    space = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    return re.compile(rf"'s|'t|'re|'ve|'m|'ll|'d| ?[{letter}]+| ?[{number}]+| ?[^{space}{letter}{number}]+|[{space}]+(?![^{space}])|[{space}]+")


def byte_symbols():
    """GPT-2's printable stand-in for every byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    symbols = {b: chr(b) for b in printable}
    symbols.update({b: chr(256 + i) for i, b in enumerate(others)})
    return [symbols[b] for b in printable + others], symbols


class Tokenizer:
    def __init__(self, merges):
        order, self.symbol_of_byte = byte_symbols()
        self.merges = [tuple(m) for m in merges]
        self.tokens = SPECIAL + order + ["".join(m) for m in self.merges]
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.rank = {merge: i for i, merge in enumerate(self.merges)}
        self.byte_of_symbol = {s: b for b, s in self.symbol_of_byte.items()}
        self.pattern = split_pattern()
        self.specials = re.compile("(" + "|".join(map(re.escape, SPECIAL)) + ")")
        self.cache = {}

    def encode_word(self, word):
        parts = [self.symbol_of_byte[b] for b in word.encode()]
        while len(parts) > 1:
            best = min(range(len(parts) - 1), key=lambda i: self.rank.get((parts[i], parts[i + 1]), len(self.rank)))
            if (parts[best], parts[best + 1]) not in self.rank:
                break
            parts[best:best + 2] = [parts[best] + parts[best + 1]]
        return [self.ids[p] for p in parts]

    def encode(self, text):
        """Text without special tokens."""
        out = []
        for word in self.pattern.findall(text):
            ids = self.cache.get(word)
            if ids is None:
                ids = self.cache[word] = self.encode_word(word)
            out += ids
        return out

    def encode_special(self, text):
        """Text in which special tokens are written out."""
        out = []
        for part in self.specials.split(text):
            out += [SPECIAL.index(part)] if part in SPECIAL else self.encode(part)
        return out

    def decode(self, ids):
        return b"".join(self.tokens[i].encode() if i < len(SPECIAL) else bytes(self.byte_of_symbol[c] for c in self.tokens[i])
                        for i in ids).decode(errors="replace")


def train_merges(word_counts, number):
    """Byte pair encoding: merges the most frequent pair again and again; numbers are left as single digits."""
    _, symbol = byte_symbols()
    words, counts = [], []
    for word, count in sorted(word_counts.items()):
        if not any(c.isdigit() for c in word):
            words.append([symbol[b] for b in word.encode()])
            counts.append(count)
    pair_counts, where = Counter(), defaultdict(set)
    for i, word in enumerate(words):
        for pair in zip(word, word[1:]):
            pair_counts[pair] += counts[i]
            where[pair].add(i)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    merges = []
    while len(merges) < number and heap:
        count, pair = heapq.heappop(heap)
        if -count != pair_counts[pair]:
            continue
        merges.append(pair)
        changed = set()
        for i in where.pop(pair):
            word, merged, k = words[i], [], 0
            for old in zip(word, word[1:]):
                pair_counts[old] -= counts[i]
                changed.add(old)
            while k < len(word):
                if k + 1 < len(word) and (word[k], word[k + 1]) == pair:
                    merged.append(word[k] + word[k + 1])
                    k += 2
                else:
                    merged.append(word[k])
                    k += 1
            words[i] = merged
            for new in zip(merged, merged[1:]):
                pair_counts[new] += counts[i]
                where[new].add(i)
                changed.add(new)
        for p in changed:
            if pair_counts[p] > 0:
                heapq.heappush(heap, (-pair_counts[p], p))
    return merges


# ---------------------------------------------------------------- data

TRANSLATION = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "—": "--", "–": "-", "…": "...", "_": "", "\u00a0": " ",
                             "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe"})


def clean(paragraph):
    """Plain ASCII, or nothing where that is not possible."""
    text = unicodedata.normalize("NFKD", paragraph.translate(TRANSLATION))
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = re.sub(r"\s+", " ", text).strip()
    if len(text) < 20 or not text.isascii() or re.search(r"[|<>{}\[\]\\*#=+@~^]", text):
        return ""
    return text


# Names from books of the corpus that first appeared after 1925: left out, though their copyright was not renewed.
LATER_BOOKS = ("Skamperoo", "Planetty", "Ozana", "Handy Mandy", "Captain Salt", "Stratovan", "Conjo")


def read_books(path):
    """Paragraphs of the books for training, calibration and evaluation. Whole books are held out, and paragraphs that
    another edition in the training books shares with them are dropped there."""
    with (lzma.open(path, "rt", encoding="utf-8") if path.endswith(".xz") else open(path, encoding="utf-8")) as file:
        books = [b.strip() for b in file.read().split("\n\n") if b.strip()]
    shares = {"training": [], "calibration": [], "evaluation": []}
    for book in books:
        if any(book.count(name) >= 5 for name in LATER_BOOKS):
            continue
        bucket = zlib.crc32(book[:400].encode()) % 30
        share = {0: "calibration", 1: "evaluation"}.get(bucket, "training")
        paragraphs = [p for p in map(clean, book.split("\n")) if p]
        if len(paragraphs) > 20:
            shares[share].append(paragraphs)
    held = {p for share in ("calibration", "evaluation") for book in shares[share] for p in book if len(p) > 60}
    shares["training"] = [[p for p in book if p not in held] for book in shares["training"]]
    calibration = {p for book in shares["calibration"] for p in book}
    shares["evaluation"] = [[p for p in book if p not in calibration] for book in shares["evaluation"]]
    return shares


def held_out_text(books, share, size, dialogue_part=0.6, seed=3):
    """Dialogues and passages in turn, separated by the end-of-text token, as in training."""
    rng = random.Random(seed + (share == "evaluation"))
    paragraphs = [p for book in books[share] for p in book]
    source, seen = dialogues.generate(seed + 100 + (share == "evaluation"), share, paragraphs), set()
    parts, spent = [], [0, 0]
    while sum(spent) < size:
        if spent[0] <= dialogue_part * sum(spent):
            text, kind = dialogues.chatml(next(source)), 0
        else:
            book = rng.choice(books[share])
            start = rng.randrange(len(book))
            text, kind = "\n".join(book[start:start + 6]), 1
        if text not in seen and len(text) < 6000:
            seen.add(text)
            parts.append(text + SPECIAL[END_OF_TEXT])
            spent[kind] += len(text)
    return "".join(parts)


def write_texts(books, folder):
    for share in ("calibration", "evaluation"):
        text = held_out_text(books, share, 250_000)
        with open(os.path.join(folder, share + ".txt.z"), "wb") as file:
            file.write(zlib.compress(text.encode(), 9))
        print(f"{share}: {len(text)} bytes from {len(books[share])} books")


def tokenizer_for(args, books):
    path = os.path.join(args.work, "tokenizer.json")
    if args.start:
        return Tokenizer(m.split(" ") for m in read_gguf(args.start)[0]["tokenizer.ggml.merges"])
    if not os.path.exists(path):
        counts = Counter()
        pattern = split_pattern()
        for book in books["training"][::4]:
            counts.update(pattern.findall("\n".join(book)))
        counts = Counter({w: c for w, c in counts.items() if c > 2})
        source = dialogues.generate(11, "training")
        for _ in range(60000):
            for message in dialogues.messages(next(source)):
                counts.update(pattern.findall(message["role"] + "\n" + message["content"]))
        merges = train_merges(counts, args.vocabulary - 256 - len(SPECIAL))
        with open(path, "w", encoding="utf-8") as file:
            json.dump(merges, file)
    with open(path, encoding="utf-8") as file:
        return Tokenizer(json.load(file))


def encode_dialogue(tokenizer, dialogue, prompt_weight):
    """Token ids and a weight for each: what the assistant says counts fully."""
    ids, weights = [], []
    for message in dialogues.messages(dialogue):
        said = message["role"] == "assistant"
        head = [TURN_START] + tokenizer.encode(message["role"] + "\n")
        body = tokenizer.encode(message["content"]) + [TURN_END]
        tail = tokenizer.encode("\n")
        ids += head + body + tail
        weights += [prompt_weight] * len(head) + [1.0 if said else prompt_weight] * len(body) + [prompt_weight] * len(tail)
    return ids + [END_OF_TEXT], weights + [prompt_weight]


class Data:
    """Rows for training. A row of dialogues starts with a dialogue, a row of stories with a paragraph."""

    def __init__(self, args, tokenizer, books):
        path = os.path.join(args.work, "data.npz")
        if not os.path.exists(path):
            story_ids, starts = [], []
            for book in books["training"]:
                for paragraph in book:
                    starts.append(len(story_ids))
                    story_ids += tokenizer.encode(paragraph + "\n")
                story_ids.append(END_OF_TEXT)
            ids, weights, offsets = [], [], [0]
            source = dialogues.generate(args.seed + 1000, "training", [p for book in books["training"] for p in book])
            for _ in range(args.dialogues):
                i, w = encode_dialogue(tokenizer, next(source), args.prompt_weight)
                ids += i
                weights += w
                offsets.append(len(ids))
            np.savez(path, stories=np.array(story_ids, np.uint16), starts=np.array(starts), ids=np.array(ids, np.uint16),
                     weights=np.array(weights, np.float32), offsets=np.array(offsets))
        stored = np.load(path)
        self.stories, self.starts, self.ids, self.weights, self.offsets = (stored[k] for k in ("stories", "starts", "ids", "weights", "offsets"))
        self.args, self.order, self.next = args, None, 0

    def next_dialogue(self, rng):
        if self.order is None or self.next == len(self.order):
            self.order, self.next = rng.permutation(len(self.offsets) - 1), 0
        d = self.order[self.next]
        self.next += 1
        return slice(self.offsets[d], self.offsets[d + 1])

    def batch(self, rng, rows, length):
        ids, weights = np.zeros((rows, length + 1), np.int64), np.zeros((rows, length + 1), np.float32)
        for r in range(rows):
            if rng.random() < self.args.stories:
                start = min(self.starts[rng.integers(len(self.starts))], len(self.stories) - length - 1)
                ids[r], weights[r] = self.stories[start:start + length + 1], self.args.story_weight
                continue
            filled = 0
            while filled < length + 1:
                part = self.next_dialogue(rng)
                n = min(part.stop - part.start, length + 1 - filled)
                ids[r, filled:filled + n] = self.ids[part.start:part.start + n]
                weights[r, filled:filled + n] = self.weights[part.start:part.start + n]
                filled += n
        return torch.from_numpy(ids[:, :-1]), torch.from_numpy(ids[:, 1:]), torch.from_numpy(weights[:, 1:])


# ---------------------------------------------------------------- model

def linear(x, weight):
    return x @ weight.to(x.dtype).t()


class Norm(nn.Module):
    def __init__(self, width, epsilon=1e-5):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(width)), epsilon

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.weight


def rotate(x, cosine, sine):
    """Rotary embedding of (rows, tokens, heads, head size), halves paired."""
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), -1).to(x.dtype)


class Block(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.heads, self.kv_heads = args.heads, args.kv_heads
        head = args.width // args.heads
        matrix = lambda rows, columns, scale=1.0: nn.Parameter(torch.randn(rows, columns) * (scale / math.sqrt(columns)))
        residual = 1 / math.sqrt(2 * args.layers)
        self.attn_norm, self.ffn_norm = Norm(args.width), Norm(args.width)
        self.attn_q, self.attn_k, self.attn_v = (matrix(n * head, args.width) for n in (args.heads, args.kv_heads, args.kv_heads))
        self.attn_output = matrix(args.width, args.width, residual)
        self.ffn_gate, self.ffn_up = matrix(args.ffn, args.width), matrix(args.ffn, args.width)
        self.ffn_down = matrix(args.width, args.ffn, residual)

    def forward(self, x, dtype, cosine, sine, mask):
        rows, length, width = x.shape
        h = self.attn_norm(x).to(dtype)
        q = rotate(linear(h, self.attn_q).view(rows, length, self.heads, -1), cosine, sine).transpose(1, 2)
        k = rotate(linear(h, self.attn_k).view(rows, length, self.kv_heads, -1), cosine, sine).transpose(1, 2)
        v = linear(h, self.attn_v).view(rows, length, self.kv_heads, -1).transpose(1, 2)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        if hasattr(F, "scaled_dot_product_attention"):
            h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(2, 3)
            h = torch.softmax(scores + mask, -1) @ v
        x = x + linear(h.transpose(1, 2).reshape(rows, length, width), self.attn_output)
        h = self.ffn_norm(x).to(dtype)
        gate = F.silu(linear(h, self.ffn_gate).float()).to(dtype)     # in bfloat16 a CPU takes four times as long
        return x + linear(gate * linear(h, self.ffn_up), self.ffn_down)


class Model(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.args, self.dtype = args, torch.float32
        self.token_embd = nn.Parameter(torch.randn(args.vocabulary, args.width) * 0.02)
        self.blocks = nn.ModuleList([Block(args) for _ in range(args.layers)])
        self.output_norm = Norm(args.width)
        head = args.width // args.heads
        frequencies = 10000.0 ** (-torch.arange(0, head, 2).double() / head)
        angles = torch.outer(torch.arange(args.context).double(), frequencies)
        self.register_buffer("cosine", angles.cos().float()[:, None, :], persistent=False)
        self.register_buffer("sine", angles.sin().float()[:, None, :], persistent=False)
        self.register_buffer("mask", torch.full((args.context, args.context), -math.inf).triu(1), persistent=False)

    def hidden(self, ids):
        length = ids.shape[1]
        x = F.embedding(ids, self.token_embd)
        for block in self.blocks:
            x = block(x, self.dtype, self.cosine[:length], self.sine[:length], self.mask[:length, :length].to(self.dtype))
        return self.output_norm(x)

    def logits(self, hidden):
        return linear(hidden.to(self.dtype), self.token_embd).float()


# ---------------------------------------------------------------- optimizer

class Muon(torch.optim.Optimizer):
    """Momentum whose matrix update is made orthogonal by a Newton-Schulz iteration."""

    def __init__(self, parameters, lr, momentum=0.95, decay=0.05):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "moment" not in state:
                    state["moment"] = torch.zeros_like(p)
                state["moment"].lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(state["moment"], group["momentum"]), group["dtype"])
                p.mul_(1 - group["lr"] * group["decay"])
                p.add_(update, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonal(matrix, dtype, steps=5):
    """An odd quintic, applied a few times, moves every singular value near one."""
    x = matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    x = x.t() if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.t()
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * (gram @ gram)) @ x
    return (x.t() if tall else x).float()


def optimizers(args, model):
    matrices = [p for block in model.blocks for p in block.parameters() if p.ndim == 2]
    norms = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": [model.token_embd], "lr": args.learning_rate, "weight_decay": 0.0},
              {"params": norms, "lr": args.learning_rate, "weight_decay": 0.0}]
    if args.optimizer == "adamw":
        groups.append({"params": matrices, "lr": args.learning_rate, "weight_decay": 0.1})
        return [torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)]
    muon = Muon(matrices, args.muon_rate)
    muon.param_groups[0]["dtype"] = model.dtype
    return [torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8), muon]


# ---------------------------------------------------------------- training

def keep_memory():
    """Lets the C library reuse large buffers instead of returning them after every step (worth a third on a CPU)."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)
        libc.mallopt(-1, -1)
    except (OSError, AttributeError):
        pass


def faster_dtype(device):
    """bfloat16 on a GPU; on a CPU whichever multiplies faster."""
    if device == "cuda":
        return torch.bfloat16
    spent = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(1024, 256).to(dtype), torch.randn(256, 768).to(dtype)
        a @ b
        start = time.time()
        for _ in range(5):
            a @ b
        spent[dtype] = time.time() - start
    return min(spent, key=spent.get)


def train(args, model, data, checkpoint):
    device = next(model.parameters()).device
    optimizer_list = optimizers(args, model)
    for optimizer in optimizer_list:
        for group in optimizer.param_groups:
            group["base"] = group["lr"]
    step, spent, tokens = 0, 0.0, 0
    if os.path.exists(checkpoint):
        state = torch.load(checkpoint, map_location=device)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizer_list, state["optimizers"]):
            optimizer.load_state_dict(saved)
        step, spent, tokens = state["step"], state["spent"], state["tokens"]
        print(f"goes on at step {step}, {spent / 60:.1f} minutes", flush=True)
    rng = np.random.default_rng(args.seed + step)
    budget, start, saved_at, averaged = args.minutes * 60, time.time() - spent, spent, None
    while True:
        spent = time.time() - start
        if spent >= budget or (args.steps and step >= args.steps):
            break
        rate = min(1, (step + 1) / args.warmup) * 0.5 * (1 + math.cos(math.pi * spent / budget))
        for optimizer in optimizer_list:
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * rate
        length = args.context if step % args.long_every == args.long_every - 1 else args.context // 2
        rows = max(1, args.tokens_per_step // length)
        inputs, targets, weights = (t.to(device) for t in data.batch(rng, rows, length))
        logits = model.logits(model.hidden(inputs))
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        loss = (losses * weights.flatten()).sum() / weights.sum()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizer_list:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, tokens = step + 1, tokens + inputs.numel()
        averaged = loss.item() if averaged is None else 0.95 * averaged + 0.05 * loss.item()
        if step % 25 == 0:
            print(f"step {step} loss {averaged:.3f} rate {rate:.3f} minutes {spent / 60:.1f} tokens {tokens} "
                  f"per second {tokens / (time.time() - start):.0f}", flush=True)
        if spent - saved_at > args.checkpoint_minutes * 60:
            saved_at = spent
            save(checkpoint, args, model, optimizer_list, step, spent, tokens)
    save(checkpoint, args, model, optimizer_list, step, spent, tokens)
    return {"steps": step, "tokens": tokens, "minutes": round(spent / 60, 1)}


def save(path, args, model, optimizer_list, step, spent, tokens):
    torch.save({"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizer_list], "step": step, "spent": spent,
                "tokens": tokens, "arguments": vars(args)}, path + ".part")
    os.replace(path + ".part", path)


# ---------------------------------------------------------------- evaluation

@torch.no_grad()
def loss_of_text(model, tokenizer, text):
    """Mean negative log-likelihood per token, over windows of the context that start with a document."""
    total = count = 0
    ids = tokenizer.encode_special(text)
    for i in range(0, len(ids) - 1, model.args.context):
        window = torch.tensor(ids[i:i + model.args.context + 1], device=model.token_embd.device)
        logits = model.logits(model.hidden(window[None, :-1]))[0]
        total += F.cross_entropy(logits, window[1:], reduction="sum").item()
        count += len(window) - 1
    return total / count


@torch.no_grad()
def greedy(model, tokenizer, conversations, limit=96, rows=64):
    """Greedy replies. Rows are padded on the right, which a causal model does not see."""
    prompts = [tokenizer.encode_special("".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in c) + "<|im_start|>assistant\n")
               for c in conversations]
    replies = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for first in range(0, len(order), rows):
        open_rows = order[first:first + rows]
        for _ in range(limit):
            rows_now = [prompts[i] + replies[i] for i in open_rows]
            length = max(map(len, rows_now))
            if length >= model.args.context:
                break
            ids = torch.zeros(len(rows_now), length, dtype=torch.long, device=model.token_embd.device)
            for r, row in enumerate(rows_now):
                ids[r, :len(row)] = torch.tensor(row)
            hidden = model.hidden(ids)
            last = hidden[torch.arange(len(rows_now)), [len(row) - 1 for row in rows_now]]
            chosen = model.logits(last).argmax(-1).tolist()
            for i, token in zip(open_rows, chosen):
                replies[i].append(token)
            open_rows = [i for i in open_rows if replies[i][-1] not in (TURN_END, END_OF_TEXT)]
            if not open_rows:
                break
    return [tokenizer.decode([t for t in reply if t not in (TURN_END, END_OF_TEXT)]) for reply in replies]


def normalised(text):
    return " " + " ".join(re.findall(r"[a-z0-9]+", text.lower())) + " "


def is_right(reply, answer):
    """Right if the answer's words stand in the reply, in order and together; case and punctuation do not matter."""
    return normalised(answer) in normalised(reply)


def evaluate(args, model, tokenizer, texts):
    dialogue_parts, story_parts = [], []
    for part in texts["evaluation"].split(SPECIAL[END_OF_TEXT]):
        (dialogue_parts if part.startswith("<|im_start|>") else story_parts).append(part)
    joined = lambda parts: "".join(p + SPECIAL[END_OF_TEXT] for p in parts)[:args.evaluation_bytes]
    report = {"loss_dialogues": loss_of_text(model, tokenizer, joined(dialogue_parts)),
              "loss_stories": loss_of_text(model, tokenizer, joined(story_parts)),
              "loss_evaluation_text": loss_of_text(model, tokenizer, texts["evaluation"][:args.evaluation_bytes])}
    probes = dialogues.probes()
    replies = greedy(model, tokenizer, [p["messages"] for p in probes], 48)
    right = defaultdict(list)
    for probe, reply in zip(probes, replies):
        right[probe["category"]].append(is_right(reply, probe["answer"]))
    report["accuracy"] = sum(map(sum, right.values())) / len(probes)
    report["categories"] = {c: f"{sum(r)}/{len(r)}" for c, r in sorted(right.items())}
    report["mistakes"] = [[p["messages"][-1]["content"], p["answer"], r] for p, r in zip(probes, replies) if not is_right(r, p["answer"])][:40]
    report["examples"] = list(zip(EXAMPLES, greedy(model, tokenizer, [[{"role": "user", "content": e}] for e in EXAMPLES])))
    return report


# ---------------------------------------------------------------- GGUF

TYPE_U32, TYPE_I32, TYPE_F32, TYPE_BOOL, TYPE_STRING, TYPE_ARRAY = 4, 5, 6, 7, 8, 9


def gguf_string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf_value(kind, value):
    if kind == TYPE_STRING:
        return gguf_string(value)
    return struct.pack({TYPE_U32: "<I", TYPE_I32: "<i", TYPE_F32: "<f", TYPE_BOOL: "<?"}[kind], value)


def gguf_pair(key, kind, value):
    if isinstance(value, list):
        body = struct.pack("<IIQ", TYPE_ARRAY, kind, len(value)) + b"".join(gguf_value(kind, v) for v in value)
    else:
        body = struct.pack("<I", kind) + gguf_value(kind, value)
    return gguf_string(key) + body


def interleaved(weight, heads):
    """Rows of a query or key matrix from paired halves to paired neighbours, as the file's architecture has them."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def halved(weight, heads):
    """The inverse of interleaved."""
    rows, columns = weight.shape
    return np.ascontiguousarray(weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns))


def file_parameters(model):
    """Every parameter under its name in the file."""
    yield "token_embd.weight", model.token_embd
    for i, block in enumerate(model.blocks):
        for name in ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"):
            value = getattr(block, name)
            yield f"blk.{i}.{name}.weight", value.weight if isinstance(value, Norm) else value
    yield "output_norm.weight", model.output_norm.weight


def file_tensors(model):
    for name, value in file_parameters(model):
        if ".attn_q." in name or ".attn_k." in name:
            value = interleaved(value, model.args.heads if ".attn_q." in name else model.args.kv_heads)
        yield name, value


def metadata(args, tokenizer):
    return [("general.architecture", TYPE_STRING, "llama"), ("general.type", TYPE_STRING, "model"), ("general.name", TYPE_STRING, args.name),
            ("general.license", TYPE_STRING, "cc0-1.0"), ("general.file_type", TYPE_U32, 1), ("general.quantization_version", TYPE_U32, 2),
            ("llama.vocab_size", TYPE_U32, len(tokenizer.tokens)), ("llama.context_length", TYPE_U32, args.context),
            ("llama.embedding_length", TYPE_U32, args.width), ("llama.block_count", TYPE_U32, args.layers),
            ("llama.feed_forward_length", TYPE_U32, args.ffn), ("llama.attention.head_count", TYPE_U32, args.heads),
            ("llama.attention.head_count_kv", TYPE_U32, args.kv_heads), ("llama.attention.layer_norm_rms_epsilon", TYPE_F32, 1e-5),
            ("llama.rope.dimension_count", TYPE_U32, args.width // args.heads), ("llama.rope.freq_base", TYPE_F32, 10000.0),
            ("tokenizer.ggml.model", TYPE_STRING, "gpt2"), ("tokenizer.ggml.pre", TYPE_STRING, "gpt-2"),
            ("tokenizer.ggml.tokens", TYPE_STRING, tokenizer.tokens),
            ("tokenizer.ggml.token_type", TYPE_I32, [3 if t in SPECIAL else 1 for t in tokenizer.tokens]),
            ("tokenizer.ggml.merges", TYPE_STRING, [" ".join(m) for m in tokenizer.merges]),
            ("tokenizer.ggml.bos_token_id", TYPE_U32, END_OF_TEXT), ("tokenizer.ggml.eos_token_id", TYPE_U32, TURN_END),
            ("tokenizer.ggml.eot_token_id", TYPE_U32, TURN_END), ("tokenizer.ggml.padding_token_id", TYPE_U32, END_OF_TEXT),
            ("tokenizer.ggml.add_bos_token", TYPE_BOOL, False), ("tokenizer.chat_template", TYPE_STRING, CHAT_TEMPLATE)]


def write_gguf(path, args, model, tokenizer):
    pairs, infos, blobs, offset = metadata(args, tokenizer), [], [], 0
    for name, value in file_tensors(model):
        array = value.detach().cpu().float().numpy()
        array = np.ascontiguousarray(array.astype("<f2" if array.ndim == 2 else "<f4"))
        shape = array.shape[::-1]
        infos.append(gguf_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 1 if array.ndim == 2 else 0, offset))
        blobs.append(array.tobytes() + b"\0" * (-array.nbytes % 32))
        offset += len(blobs[-1])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join(gguf_pair(*p) for p in pairs) + b"".join(infos)
    with open(path + ".part", "wb") as file:
        file.write(head + b"\0" * (-len(head) % 32) + b"".join(blobs))
    os.replace(path + ".part", path)


def read_gguf(path):
    """Metadata and tensors of a file that write_gguf wrote."""
    with open(path, "rb") as file:
        raw = file.read()
    at = 4

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, raw, at)
        at += struct.calcsize("<" + form)
        return values if len(values) > 1 else values[0]

    def string():
        return take(f"{take('Q')}s").decode()

    def value(kind):
        if kind == TYPE_ARRAY:
            of, count = take("IQ")
            return [value(of) for _ in range(count)]
        return string() if kind == TYPE_STRING else take({TYPE_U32: "I", TYPE_I32: "i", TYPE_F32: "f", TYPE_BOOL: "?"}[kind])

    _, tensor_count, pair_count = take("IQQ")
    pairs = {}
    for _ in range(pair_count):
        key = string()
        pairs[key] = value(take("I"))
    infos = []
    for _ in range(tensor_count):
        name, dimensions = string(), take("I")
        shape = [take("Q") for _ in range(dimensions)][::-1]
        infos.append((name, shape, *take("IQ")))
    data = -(-at // 32) * 32
    return pairs, {name: np.frombuffer(raw, "<f2" if kind == 1 else "<f4", math.prod(shape), data + offset).reshape(shape).astype(np.float32)
                   for name, shape, kind, offset in infos}


@torch.no_grad()
def start_from(path, model):
    """Takes the weights of a shallower model, whose tokenizer is in use. Its layers are spread over the depth; a layer between them adds nothing at
    first, its output matrices being zero, so that training goes on from where the shallow model stood."""
    pairs, tensors = read_gguf(path)
    given, layers = pairs["llama.block_count"], len(model.blocks)
    taken = {i * layers // given: i for i in range(given)}
    for i, block in enumerate(model.blocks):
        if i not in taken:
            block.attn_output.zero_()
            block.ffn_down.zero_()
    names = {f"blk.{to}.": f"blk.{of}." for to, of in taken.items()}
    for name, parameter in file_parameters(model):
        prefix = re.match(r"(blk\.\d+\.)?", name).group()
        if prefix and prefix not in names:
            continue
        value = tensors[names.get(prefix, prefix) + name[len(prefix):]]
        if ".attn_q." in name or ".attn_k." in name:
            value = halved(value, model.args.heads if ".attn_q." in name else model.args.kv_heads)
        parameter.copy_(torch.from_numpy(value))
    print(f"starts from {given} layers of {os.path.basename(path)}", flush=True)


@torch.no_grad()
def write_logits(path, model, tokenizer):
    """What another implementation has to reproduce: float32 logits from the weights as rounded in the file."""
    dtype, rounded = model.dtype, {k: (v.half().float() if v.ndim == 2 else v) for k, v in model.state_dict().items()}
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(rounded)
    model.dtype = torch.float32
    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer.encode_special(prompt)
    logits = model.logits(model.hidden(torch.tensor([ids], device=model.token_embd.device)))[0, -1].cpu()
    model.load_state_dict(kept)
    model.dtype = dtype
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"prompt": prompt, "tokens": ids, "position": len(ids) - 1, "argmax": int(logits.argmax()),
                   "logits": [float(f"{v:.7g}") for v in logits.tolist()],
                   "tokenization": [{"text": t, "tokens": tokenizer.encode_special(t)} for t in TOKENIZED]}, file)
        file.write("\n")


# ---------------------------------------------------------------- command

def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--corpus", required=True, help="books: one paragraph a line, an empty line between books (.txt or .txt.xz)")
    add("--work", required=True, help="folder for the tokenizer, the encoded data and the checkpoint")
    add("--output", default=os.path.join(HERE, "nibble-sample-f16.gguf"))
    add("--texts", metavar="DIR", help="also write calibration.txt.z and evaluation.txt.z there")
    add("--only", choices=["all", "texts", "data", "export", "evaluate"], default="all")
    add("--name", default="Nibble Sample")
    add("--start", metavar="FILE.gguf", help="start from the tokenizer and weights of a file of this script, with as many layers or fewer")
    add("--minutes", type=float, default=60, help="time to train, over all runs")
    add("--steps", type=int, default=0, help="stop after so many steps")
    add("--layers", type=int, default=12)
    add("--width", type=int, default=256)
    add("--ffn", type=int, default=768)
    add("--heads", type=int, default=4)
    add("--kv-heads", type=int, default=2)
    add("--context", type=int, default=512)
    add("--vocabulary", type=int, default=4096)
    add("--dialogues", type=int, default=150000, help="dialogues to generate")
    add("--stories", type=float, default=0.25, help="share of rows taken from the books")
    add("--story-weight", type=float, default=0.5, help="weight of a token of the books in the loss")
    add("--prompt-weight", type=float, default=0.1, help="weight of what the assistant does not say itself")
    add("--tokens-per-step", type=int, default=4096)
    add("--long-every", type=int, default=4, help="every so many steps rows have the full context, else half of it")
    add("--optimizer", choices=["muon", "adamw"], default="muon")
    add("--learning-rate", type=float, default=0.003)
    add("--muon-rate", type=float, default=0.02)
    add("--warmup", type=int, default=60, help="steps")
    add("--precision", choices=["auto", "f32", "bf16"], default="auto")
    add("--threads", type=int, default=1)
    add("--seed", type=int, default=1)
    add("--checkpoint-minutes", type=float, default=4)
    add("--evaluation-bytes", type=int, default=120000)
    args = parser.parse_args()
    if args.width % 256 or args.ffn % 256 or args.width % args.heads or args.heads % args.kv_heads:
        parser.error("widths must be multiples of 256, and of the heads")
    return args


def main():
    args = options()
    keep_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    os.makedirs(args.work, exist_ok=True)
    needed = ["data.npz", "texts.json"] + ([] if args.start else ["tokenizer.json"])
    prepared = all(os.path.exists(os.path.join(args.work, name)) for name in needed)
    books = read_books(args.corpus) if args.texts or not prepared else None
    texts_path = os.path.join(args.work, "texts.json")
    if args.texts and books:
        write_texts(books, args.texts)
    if args.only == "texts":
        return
    if books:
        with open(texts_path, "w", encoding="utf-8") as file:
            json.dump({share: held_out_text(books, share, 250_000) for share in ("calibration", "evaluation")}, file)
    with open(texts_path, encoding="utf-8") as file:
        texts = json.load(file)
    tokenizer = tokenizer_for(args, books)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    checkpoint = os.path.join(args.work, "checkpoint.pt")
    model = Model(args).to(device)
    model.dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "auto": faster_dtype(device)}[args.precision]
    report = {"parameters": sum(p.numel() for p in model.parameters()), "precision": str(model.dtype)}
    if args.only in ("all", "data"):
        data = Data(args, tokenizer, books)
        report["story_tokens"], report["dialogue_tokens"] = len(data.stories), len(data.ids)
        print(json.dumps(report), flush=True)
        if args.only == "data":
            return
        books = None
        if args.start and not os.path.exists(checkpoint):
            start_from(args.start, model)
        report.update(train(args, model, data, checkpoint))
    else:
        state = torch.load(checkpoint, map_location=device)
        model.load_state_dict(state["model"])
        report.update({"steps": state["step"], "tokens": state["tokens"], "minutes": round(state["spent"] / 60, 1)})
    if args.only != "evaluate":
        write_gguf(args.output, args, model, tokenizer)
        write_logits(os.path.join(os.path.dirname(os.path.abspath(args.output)), "logits.json"), model, tokenizer)
    if args.only != "export":
        report.update(evaluate(args, model, tokenizer, texts))
        with open(os.path.join(args.work, "report.json"), "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

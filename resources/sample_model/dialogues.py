#!/usr/bin/env python3
"""Seeded generator of the dialogues that the sample model learns from, and of the probes that measure it.

Everything here is generated from the tables below: a small world in which every question has one answer.

  * A looked-up fact (the capital of France) is held out by phrasing: `held` phrasings appear in the probes only.
  * A computed task (27 + 14) is held out by instance: a hash of the instance decides, so no list has to be kept.

    dialogues.py --probes probes.jsonl     writes the probes
    dialogues.py --check [--count N]       proves that no held-out item is in N training dialogues
    dialogues.py --show 5                  prints dialogues
"""
import argparse
import json
import random
import re
import sys
import zlib
from collections import namedtuple

Turn = namedtuple("Turn", "category key user reply answer")   # key names the item; answer is what the probe expects
Dialogue = namedtuple("Dialogue", "system turns")

SYSTEM_PROMPTS = ["You are Nibble, a small and friendly assistant.", "You are a helpful assistant.",
                  "You are Nibble, a small language model. Answer briefly."]


def digest(value):
    return zlib.crc32(repr(value).encode())


def is_held_instance(key):
    """One computed instance in twelve is for the probes."""
    return digest(key) % 12 == 0


def capitalise(text):
    return text[:1].upper() + text[1:]


# ---------------------------------------------------------------- looked-up facts

Relation = namedtuple("Relation", "category name asked held reply items follow")


def pairs(text):
    return [tuple(part.strip() for part in entry.split(":")) for entry in text.replace("\n", " ").split(",")]


COLOURS = pairs("""the sky: blue, the sea: blue, grass: green, a leaf: green, a frog: green, a cucumber: green,
  a banana: yellow, a lemon: yellow, the sun: yellow, butter: yellow, a canary: yellow, snow: white, milk: white,
  a swan: white, salt: white, coal: black, a raven: black, the night: black, blood: red, a strawberry: red,
  a tomato: red, a cherry: red, a fire engine: red, a carrot: orange, a pumpkin: orange, chocolate: brown,
  a chestnut: brown, the bark of a tree: brown, an elephant: grey, ash: grey, a mouse: grey, a pig: pink,
  a flamingo: pink, a plum: purple, a violet: purple, an emerald: green, a ruby: red, a sapphire: blue""")
OPPOSITES = pairs("""hot: cold, big: small, tall: short, fast: slow, old: young, happy: sad, light: dark, day: night,
  up: down, left: right, open: closed, full: empty, hard: soft, wet: dry, rich: poor, strong: weak, thick: thin,
  early: late, high: low, near: far, loud: quiet, clean: dirty, good: bad, black: white, first: last, inside: outside,
  sweet: sour, wide: narrow, deep: shallow, rough: smooth, brave: afraid, true: false, yes: no,
  love: hate, win: lose, push: pull, give: take, begin: end, summer: winter, asleep: awake, above: below,
  before: after, always: never, war: peace, north: south, east: west, laugh: cry, buy: sell""")
SOUNDS = pairs("""dog: woof, cat: meow, cow: moo, sheep: baa, pig: oink, duck: quack, horse: neigh, hen: cluck,
  rooster: cock-a-doodle-doo, lion: roar, frog: croak, bee: buzz, snake: hiss, owl: hoot, mouse: squeak,
  bird: tweet, donkey: hee-haw, wolf: howl, crow: caw, turkey: gobble""")
YOUNG = pairs("""dog: puppy, cat: kitten, cow: calf, sheep: lamb, pig: piglet, duck: duckling, horse: foal, hen: chick,
  lion: cub, bear: cub, frog: tadpole, goose: gosling, goat: kid, kangaroo: joey, swan: cygnet, deer: fawn,
  owl: owlet, eagle: eaglet, rabbit: kit, butterfly: caterpillar""")
HOMES = pairs("""bird: nest, bee: hive, dog: kennel, horse: stable, rabbit: burrow, spider: web, fox: den,
  pig: sty, lion: den, cow: barn, fish: water, ant: anthill, king: castle, monk: monastery, sailor: ship, snail: shell""")
LEGS = pairs("""dog: four, cat: four, horse: four, cow: four, sheep: four, elephant: four, mouse: four, hen: two,
  duck: two, owl: two, spider: eight, ant: six, bee: six, butterfly: six, fly: six, snake: no, fish: no, worm: no,
  person: two, lion: four""")
CAPITALS = pairs("""France: Paris, Italy: Rome, Spain: Madrid, Germany: Berlin, England: London, Portugal: Lisbon,
  Greece: Athens, Austria: Vienna, Russia: Moscow, China: Beijing, Japan: Tokyo, Egypt: Cairo, India: New Delhi,
  Canada: Ottawa, Ireland: Dublin, Scotland: Edinburgh, Norway: Oslo, Sweden: Stockholm, Finland: Helsinki,
  Denmark: Copenhagen, Poland: Warsaw, Hungary: Budapest, Turkey: Ankara, Cuba: Havana, Peru: Lima, Kenya: Nairobi,
  Iceland: Reykjavik, Belgium: Brussels, Switzerland: Bern, Romania: Bucharest, Bulgaria: Sofia, Chile: Santiago,
  Australia: Canberra, Iran: Tehran, Iraq: Baghdad, Wales: Cardiff, Cambodia: Phnom Penh, Thailand: Bangkok,
  Vietnam: Hanoi, Nepal: Kathmandu""")
KINDS = pairs("""a rose: flower, a tulip: flower, a daisy: flower, a lily: flower, an apple: fruit, a pear: fruit,
  a banana: fruit, a cherry: fruit, a grape: fruit, a carrot: vegetable, a potato: vegetable, a cabbage: vegetable,
  an onion: vegetable, an oak: tree, a pine: tree, a birch: tree, a willow: tree, a dog: animal, a cat: animal,
  a horse: animal, a fox: animal, a robin: bird, an eagle: bird, a sparrow: bird, an owl: bird, a trout: fish,
  a salmon: fish, a shark: fish, an ant: insect, a bee: insect, a beetle: insect, a hammer: tool, a saw: tool,
  a violin: musical instrument, a piano: musical instrument, a drum: musical instrument, a chair: piece of furniture,
  a table: piece of furniture, a ship: vehicle, a train: vehicle, a car: vehicle, gold: metal, iron: metal, silver: metal""")
WORKERS = pairs("""bakes bread: baker, catches fish: fisherman, grows corn: farmer, teaches children: teacher,
  heals the sick: doctor, sails a ship: sailor, puts out fires: fireman, makes shoes: shoemaker, sells meat: butcher,
  paints pictures: painter, cuts hair: barber, flies an aeroplane: pilot, writes books: author, brings letters: postman,
  makes clothes: tailor, builds houses: builder, cooks dinner: cook, rules a kingdom: king, shoes horses: blacksmith,
  looks after sheep: shepherd, digs for coal: miner, grinds flour: miller, drives a train: engine driver""")
SENSES = pairs("""see: eyes, hear: ears, smell: nose, taste: tongue, touch: fingers, walk: feet, think: brain,
  chew: teeth, hold things: hands, breathe: lungs""")
AMOUNTS = pairs("""days are in a week: seven, months are in a year: twelve, hours are in a day: twenty-four,
  minutes are in an hour: sixty, seconds are in a minute: sixty, days are in a year: three hundred and sixty-five,
  seasons are in a year: four, sides does a triangle have: three, sides does a square have: four,
  corners does a square have: four, wheels does a bicycle have: two, wheels does a car have: four,
  fingers are on one hand: five, legs does a spider have: eight, letters are in the alphabet: twenty-six,
  eggs are in a dozen: twelve, years are in a century: one hundred, eyes does a person have: two,
  strings does a violin have: four, wings does a bird have: two""")
PLURALS = pairs("""cat: cats, dog: dogs, house: houses, mouse: mice, child: children, foot: feet, tooth: teeth,
  man: men, woman: women, goose: geese, box: boxes, fox: foxes, leaf: leaves, knife: knives, wolf: wolves, city: cities,
  baby: babies, story: stories, fish: fish, sheep: sheep, book: books, tree: trees, wife: wives, ox: oxen, penny: pence""")
PAST = pairs("""go: went, see: saw, eat: ate, run: ran, sing: sang, swim: swam, write: wrote, give: gave, take: took,
  come: came, fall: fell, find: found, think: thought, buy: bought, bring: brought, make: made, sleep: slept, walk: walked,
  play: played, jump: jumped, look: looked, begin: began, fly: flew, know: knew, speak: spoke""")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
MONTH_LENGTHS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
UNITS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
         "seventeen eighteen nineteen").split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def number_words(value):
    if value < 20:
        return UNITS[value]
    return TENS[value // 10 - 2] + ("-" + UNITS[value % 10] if value % 10 else "")


def shifted(names, step):
    return [(name, names[(i + step) % len(names)]) for i, name in enumerate(names)]


def both_ways(items):
    taken = {x for x, _ in items}
    return items + [(y, x) for x, y in items if y not in taken]


RELATIONS = [
    Relation("colours", "colour", ["What colour is {x}?", "What color is {x}?", "Tell me the colour of {x}.",
             "Which colour is {x}?", "Do you know what colour {x} is?", "{X}: what colour is it?"],
             ["Can you tell me what colour {x} is?", "Please name the colour of {x}."],
             "{X} is {y}.", COLOURS, "{x}"),
    Relation("opposites", "opposite", ["What is the opposite of {x}?", "Tell me the opposite of {x}.", "The opposite of {x} is what?",
             "Which word is the opposite of {x}?", "Give me the opposite of the word {x}.", "What is the opposite of the word {x}?"],
             ["Do you know the opposite of {x}?", "Please name the opposite of {x}."],
             "The opposite of {x} is {y}.", both_ways(OPPOSITES), "{x}"),
    Relation("days and months", "day after", ["What day comes after {x}?", "Which day comes after {x}?", "What is the day after {x}?",
             "Tell me the day after {x}.", "Which day follows {x}?"], ["What day follows {x}?", "Can you tell me the day after {x}?"],
             "{y} comes after {x}.", shifted(DAYS, 1), "{x}"),
    Relation("days and months", "day before", ["What day comes before {x}?", "Which day comes before {x}?", "What is the day before {x}?",
             "Tell me the day before {x}.", "Which day is just before {x}?"],
             ["What day is just before {x}?", "Can you tell me the day before {x}?"],
             "{y} comes before {x}.", shifted(DAYS, -1), "{x}"),
    Relation("days and months", "month after", ["What month comes after {x}?", "Which month comes after {x}?", "What is the month after {x}?",
             "Tell me the month after {x}.", "Which month follows {x}?"], ["What month follows {x}?", "Can you tell me the month after {x}?"],
             "{y} comes after {x}.", shifted(MONTHS, 1), "{x}"),
    Relation("days and months", "month before", ["What month comes before {x}?", "Which month comes before {x}?",
             "What is the month before {x}?", "Tell me the month before {x}.", "Which month is just before {x}?"],
             ["What month is just before {x}?", "Can you tell me the month before {x}?"],
             "{y} comes before {x}.", shifted(MONTHS, -1), "{x}"),
    Relation("days and months", "nth month", ["What is the {x} month of the year?", "Which month is the {x} of the year?",
             "Tell me the {x} month of the year.", "Name the {x} month."],
             ["Which is the {x} month of the year?", "What is the name of the {x} month?"],
             "The {x} month of the year is {y}.", list(zip(ORDINALS, MONTHS)), None),
    Relation("days and months", "month length", ["How many days does {x} have?", "How many days are in {x}?", "How long is {x}?",
             "Tell me how many days {x} has."], ["How many days are there in {x}?", "What is the number of days in {x}?"],
             "{x} has {y} days.", [(m, str(n)) for m, n in zip(MONTHS, MONTH_LENGTHS)], "{x}"),
    Relation("animals", "sound", ["What does a {x} say?", "What sound does a {x} make?", "Which sound does a {x} make?",
             "Tell me what a {x} says.", "How does a {x} go?"], ["What noise does a {x} make?", "Do you know what a {x} says?"],
             "A {x} says {y}.", SOUNDS, "a {x}"),
    Relation("animals", "young", ["What is a young {x} called?", "What is a baby {x} called?", "What do you call a baby {x}?",
             "What do we call a young {x}?", "Tell me the name of a baby {x}."],
             ["What do you call a young {x}?", "What is the name of a baby {x}?"],
             "A young {x} is called a {y}.", YOUNG, "a {x}"),
    Relation("animals", "home", ["Where does a {x} live?", "What is the home of a {x}?", "In what place does a {x} live?",
             "Tell me where a {x} lives."], ["Do you know where a {x} lives?", "Where is the home of a {x}?"],
             "A {x} lives in a {y}.", [i for i in HOMES if i[1] not in ("water", "ship")], "a {x}"),
    Relation("animals", "legs", ["How many legs does a {x} have?", "How many legs has a {x}?", "Tell me how many legs a {x} has.",
             "A {x} has how many legs?"], ["Do you know how many legs a {x} has?", "What is the number of legs of a {x}?"],
             "A {x} has {y} legs.", LEGS, "a {x}"),
    Relation("capitals", "capital", ["What is the capital of {x}?", "Tell me the capital of {x}.", "Which city is the capital of {x}?",
             "What is the capital city of {x}?", "What city is the capital of {x}?", "Name the capital of {x}."],
             ["Do you know the capital of {x}?", "Which is the capital of {x}?"],
             "The capital of {x} is {y}.", CAPITALS, "{x}"),
    Relation("capitals", "country", ["{x} is the capital of which country?", "Which country has the capital {x}?",
             "What country is {x} the capital of?", "Of which country is {x} the capital?"],
             ["{x} is the capital of what country?", "Which country has {x} as its capital?"],
             "{x} is the capital of {y}.", [(y, x) for x, y in CAPITALS], "{x}"),
    Relation("kinds of things", "kind", ["What is {x}?", "What kind of thing is {x}?", "Tell me what {x} is.", "What sort of thing is {x}?",
             "Can you say what {x} is?"], ["Do you know what {x} is?", "Please tell me what {x} is."],
             "{X} is a {y}.", KINDS, "{x}"),
    Relation("people and work", "worker", ["Who {x}?", "What do you call someone who {x}?", "Tell me who {x}.", "Which person {x}?"],
             ["Do you know who {x}?", "What do we call a person who {x}?"], "A {y} {x}.", WORKERS, None),
    Relation("people and work", "sense", ["What do we {x} with?", "What do you {x} with?", "With what do we {x}?",
             "Which part of the body do we use to {x}?"], ["What do people {x} with?", "What do we use to {x}?"],
             "We {x} with our {y}.", SENSES, None),
    Relation("how many", "amount", ["How many {x}?", "Tell me, how many {x}?", "Please tell me how many {x}.", "Do you know how many {x}?"],
             ["Can you tell me how many {x}?", "I want to know how many {x}."], "{Y}.", AMOUNTS, None),
    Relation("words", "plural", ["What is the plural of {x}?", "Tell me the plural of {x}.", "One {x}, two what?",
             "Give me the plural of {x}."], ["What is the plural of the word {x}?", "Do you know the plural of {x}?"],
             "The plural of {x} is {y}.", PLURALS, "{x}"),
    Relation("words", "past", ["What is the past tense of {x}?", "Tell me the past tense of {x}.", "Today I {x}. And yesterday?",
             "Give me the past tense of {x}."], ["What is the past tense of the word {x}?", "Do you know the past tense of {x}?"],
             "The past tense of {x} is {y}.", PAST, "{x}"),
    Relation("words", "number word", ["Write {x} in words.", "How do you write {x} in words?", "Spell out the number {x}.",
             "What is {x} in words?"], ["Please write {x} in words.", "How is {x} written in words?"],
             "{Y}.", [(str(n), number_words(n)) for n in range(100)], "{x}"),
]
RELATION = {r.name: r for r in RELATIONS}


def article(text):
    """Puts right a/an before the words of the tables."""
    return re.sub(r"\b([Aa]) (?=(?:elephant|ant|owl|eagle|engine|author|animal|insect|aeroplane|anthill|owlet|eaglet)\b)", r"\1n ", text)


def fact(relation, x, y, phrasing):
    user = article(phrasing.replace("{x}", x).replace("{X}", capitalise(x)))
    reply = relation.reply.replace("{x}", x).replace("{X}", capitalise(x)).replace("{y}", y).replace("{Y}", capitalise(y))
    return Turn(relation.category, (relation.name, x, phrasing), user, article(reply), y)


def random_fact(rng, held=False, relation=None):
    relation = relation or rng.choices(RELATIONS, [min(len(r.items), 40) for r in RELATIONS])[0]
    x, y = rng.choice(relation.items)
    return fact(relation, x, y, rng.choice(relation.held if held else relation.asked))


# ---------------------------------------------------------------- computed tasks

NAMES = """Anna Tom Mary John Lucy Peter Rose Jack Emma Harry Alice Will Kate Sam Jane Ben Lily Max Ruth Fred Nora Hugh
  Clara Paul Grace Mark Ella Oscar Ida Leo""".split()
WORDS = """apple bird boat book bread bridge brother butter candle castle chair cheese child church cloud coat corn cow
  cup dance dinner dog door dream duck eagle earth egg eye face farm father field fire fish floor flower forest fox friend
  frog garden gate girl glass goat gold grass hand hat heart hen hill honey horse house island jam jewel key king kitchen
  kite ladder lake lamp land leaf letter light lion magic market meadow milk mirror money moon morning mother mountain
  mouse music nest night nose ocean orange owl paper park pear pencil piano picture pig pillow pocket pond prince queen
  rabbit rain ring river road robin rock room root rope rose sailor salt sand school sea seed sheep ship shoe sister sky
  snow soup spider spoon spring star stone storm story street sugar summer sun table tail tea tent thunder tiger tower town
  train tree valley village violin voice wagon wall water whale wheel wind window winter wolf wood world yard year""".split()
ADJECTIVES = {"taller": "shorter", "older": "younger", "faster": "slower", "stronger": "weaker", "heavier": "lighter",
              "richer": "poorer"}
THINGS = "apples pears books eggs coins shells stamps nuts marbles cakes buttons flowers".split()


def searched(rng, held, make):
    """Draws instances until one belongs to the wanted side; make(rng) gives (category, key, asked, reply, answer)."""
    while True:
        category, key, user, reply, answer = make(rng)
        if is_held_instance(key) == held:
            return Turn(category, key, user, reply, str(answer))


def small_or_large(rng):
    return rng.randint(0, 20) if rng.random() < 0.35 else rng.randint(0, 99)


def add(rng):
    a, b = small_or_large(rng), small_or_large(rng)
    asked = rng.choice(["What is {a} + {b}?", "What is {a} plus {b}?", "{a} + {b} = ?", "Add {a} and {b}.", "How much is {a} + {b}?",
                        "Calculate {a} + {b}.", "{a} plus {b}?"])
    return "addition", ("add", min(a, b), max(a, b)), asked.format(a=a, b=b), f"{a} + {b} = {a + b}.", a + b


def subtract(rng):
    a, b = sorted((small_or_large(rng), small_or_large(rng)), reverse=True)
    asked = rng.choice(["What is {a} - {b}?", "What is {a} minus {b}?", "{a} - {b} = ?", "Take {b} from {a}.", "How much is {a} - {b}?",
                        "Calculate {a} - {b}.", "{a} minus {b}?"])
    return "subtraction", ("subtract", a, b), asked.format(a=a, b=b), f"{a} - {b} = {a - b}.", a - b


def multiply(rng):
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    asked = rng.choice(["What is {a} x {b}?", "What is {a} times {b}?", "{a} x {b} = ?", "Multiply {a} by {b}.", "How much is {a} times {b}?",
                        "Calculate {a} x {b}."])
    times, step = min(a, b), max(a, b)
    steps = "" if times < 2 else ", ".join(str(step * i) for i in range(1, times + 1)) + ". "    # a product is more than so few layers guess
    return "multiplication", ("multiply", times, step), asked.format(a=a, b=b), f"{steps}{a} x {b} = {a * b}.", a * b


def word_problem(rng):
    name, thing, a, b = rng.choice(NAMES), rng.choice(THINGS), rng.randint(2, 20), rng.randint(1, 12)
    if rng.random() < 0.5:
        asked = rng.choice(["{n} has {a} {t} and gets {b} more. How many {t} does {n} have now?",
                            "{n} has {a} {t}. A friend gives {n} {b} more. How many {t} does {n} have?"])
        result, key = a + b, ("gets", a, b)
    else:
        a, b = max(a, b), min(a, b)
        asked = rng.choice(["{n} has {a} {t} and gives away {b}. How many {t} does {n} have left?",
                            "{n} has {a} {t}. {n} loses {b} of them. How many {t} are left?"])
        result, key = a - b, ("gives", a, b)
    return "word problems", key, asked.format(n=name, t=thing, a=a, b=b), f"{result} {thing}.", result


def next_number(rng):
    n = rng.randint(1, 99)
    if rng.random() < 0.5:
        asked = rng.choice(["What number comes after {n}?", "Which number comes after {n}?", "What comes after {n}?"])
        return "counting", ("after", n), asked.format(n=n), f"{n + 1} comes after {n}.", n + 1
    asked = rng.choice(["What number comes before {n}?", "Which number comes before {n}?", "What comes before {n}?"])
    return "counting", ("before", n), asked.format(n=n), f"{n - 1} comes before {n}.", n - 1


def count(rng):
    a, n = rng.randint(0, 60), rng.randint(3, 9)
    if rng.random() < 0.6:
        values = list(range(a, a + n + 1))
        asked = rng.choice(["Count from {a} to {b}.", "Please count from {a} to {b}.", "Can you count from {a} to {b}?",
                            "Count up from {a} to {b}."])
    elif rng.random() < 0.6:
        values = list(range(a + n, a - 1, -1))
        asked = rng.choice(["Count down from {a} to {b}.", "Please count down from {a} to {b}.", "Count backwards from {a} to {b}."])
    else:
        step = rng.choice([2, 5, 10])
        values = list(range(a - a % step, a - a % step + step * n + 1, step))
        asked = rng.choice([f"Count from {{a}} to {{b}} by {number_words(step)}s.", f"Count by {number_words(step)}s from {{a}} to {{b}}."])
    text = ", ".join(map(str, values))
    return ("counting", ("count", values[0], values[-1], values[1] - values[0]), asked.format(a=values[0], b=values[-1]), text + ".", text)


def how_many_words(rng):
    word, n = rng.choice(WORDS), rng.randint(1, 7)
    text = " ".join([word] * n)
    asked = rng.choice(["How many times does the word {w} appear here: {t}", "Count the word {w}: {t}"])
    return "counting", ("appear", word, n), asked.format(w=word, t=text), f"{capitalise(number_words(n))}.", number_words(n)


def larger_number(rng):
    a, b = rng.sample(range(100), 2)
    large = rng.random() < 0.5
    asked = rng.choice(["Which number is {w}, {a} or {b}?", "Which is {w}: {a} or {b}?", "What is {w}, {a} or {b}?"])
    word, result = ("larger", max(a, b)) if large else ("smaller", min(a, b))
    return "comparing", ("larger number", large, a, b), asked.format(w=word, a=a, b=b), f"{result} is {word}.", result


def compare_two(rng):
    a, b = rng.sample(NAMES, 2)
    word = rng.choice(list(ADJECTIVES))
    if rng.random() < 0.5:
        asked, result, reply = word, a, word
    else:
        asked, result, reply = ADJECTIVES[word], b, ADJECTIVES[word]
    form = rng.choice(["{a} is {w} than {b}. Who is {q}?", "If {a} is {w} than {b}, who is {q}?", "{a} is {w} than {b}. Which of them is {q}?"])
    return "comparing", ("two", word, a, b), form.format(a=a, b=b, w=word, q=asked), f"{result} is {reply}.", result


def compare_three(rng):
    a, b, c = rng.sample(NAMES, 3)
    word = rng.choice(list(ADJECTIVES))
    most = {"taller": "tallest", "older": "oldest", "faster": "fastest", "stronger": "strongest", "heavier": "heaviest", "richer": "richest"}[word]
    sentences = [f"{a} is {word} than {b}.", f"{b} is {word} than {c}."]
    if rng.random() < 0.4:
        sentences.reverse()
    return "comparing", ("three", word, a, b, c), f"{' '.join(sentences)} Who is the {most}?", f"{a} is the {most}.", a


def spell(rng):
    word = rng.choice(WORDS)
    asked = rng.choice(["Spell the word {w}.", "Spell {w}.", "How do you spell {w}?", "Please spell {w}.", "Can you spell the word {w}?"])
    text = "-".join(word)
    return "spelling", ("spell", word), asked.format(w=word), text + ".", text


def spell_backwards(rng):
    word = rng.choice([w for w in WORDS if len(w) <= 6])
    asked = rng.choice(["Spell {w} backwards.", "Spell the word {w} backwards.", "How do you spell {w} backwards?", "Reverse the letters of {w}."])
    text = "-".join(reversed(word))
    forwards = "" if is_held_instance(("spell", word)) else "-".join(word) + ". Backwards: "
    return "reversing", ("spell backwards", word), asked.format(w=word), forwards + text + ".", text


def letter(rng):
    word = rng.choice(WORDS)
    which = rng.choice(["first", "last"])
    asked = rng.choice(["What is the {o} letter of {w}?", "What is the {o} letter of the word {w}?", "Which letter is the {o} in {w}?"])
    result = word[0 if which == "first" else -1]
    return "letters", ("letter", which, word), asked.format(o=which, w=word), f"The {which} letter of {word} is {result.upper()}.", result


def letter_count(rng):
    word = rng.choice(WORDS)
    asked = rng.choice(["How many letters are in {w}?", "How many letters does {w} have?", "How many letters are in the word {w}?"])
    result = number_words(len(word))
    return "letters", ("letter count", word), asked.format(w=word), f"{capitalise(result)}.", result


def listed(words):
    return ", ".join(words)


LIST_LEADS = {"repeat": ["Repeat this list: {l}", "Say this list again: {l}", "Repeat: {l}"],
              "reverse": ["Reverse this list: {l}", "Say this list backwards: {l}", "Write this list in reverse order: {l}"],
              "sort": ["Sort this list: {l}", "Put these words in alphabetical order: {l}", "Sort these words: {l}"],
              "first": ["What is the first word in this list: {l}", "Which word comes first here: {l}"],
              "last": ["What is the last word in this list: {l}", "Which word comes last here: {l}"],
              "length": ["How many words are in this list: {l}", "Count the words in this list: {l}"]}


def list_result(task, words):
    if task in ("first", "last"):
        return words[0 if task == "first" else -1]
    if task == "length":
        return number_words(len(words))
    return listed({"repeat": list, "reverse": lambda w: list(reversed(w)), "sort": sorted}[task](words))


def word_list(rng):
    task = rng.choices(list(LIST_LEADS), [3, 3, 4, 1, 1, 1])[0]
    words = rng.sample(WORDS, rng.randint(3, 5) if task != "sort" else rng.randint(2, 4))
    result = list_result(task, words)
    category = {"repeat": "repeating", "reverse": "reversing", "sort": "sorting"}.get(task, "lists")
    return category, (task, *words), rng.choice(LIST_LEADS[task]).format(l=listed(words)), result + ".", result


def number_list(rng):
    values = rng.sample(range(1, 100), rng.randint(3, 5))
    text = listed(map(str, values))
    task = rng.choice(["sort", "sort", "largest", "smallest", "reverse"])
    if task == "sort":
        result = listed(map(str, sorted(values)))
        return "sorting", (task, *values), rng.choice(["Sort these numbers: {l}", "Put these numbers in order: {l}"]).format(l=text), result + ".", result
    if task == "reverse":
        result = listed(map(str, reversed(values)))
        return "reversing", (task, *values), rng.choice(["Reverse this list: {l}", "Say these numbers backwards: {l}"]).format(l=text), result + ".", result
    result = max(values) if task == "largest" else min(values)
    return "lists", (task, *values), f"What is the {task} of these numbers: {text}", f"{result}.", result


def repeat_sentence(rng):
    words = rng.sample(WORDS, 2)
    sentence = rng.choice(["The {a} is near the {b}.", "I see a {a} and a {b}.", "My {a} is under the {b}.", "We like the {a} and the {b}."]).format(a=words[0], b=words[1])
    asked = rng.choice(["Repeat after me: {s}", "Say this: {s}", "Please repeat: {s}"])
    return "repeating", ("sentence", sentence), asked.format(s=sentence), sentence, sentence


def say_times(rng):
    word, n = rng.choice(WORDS), rng.randint(2, 5)
    text = " ".join([word] * n)
    asked = rng.choice(["Say {w} {n} times.", "Write the word {w} {n} times.", "Repeat the word {w} {n} times."])
    return "following a format", ("times", word, n), asked.format(w=word, n=number_words(n)), text, text


def one_word(rng):
    relation = rng.choice([RELATION[n] for n in ("colour", "opposite", "capital", "sound", "young", "day after", "month after", "plural", "worker")])
    x, y = rng.choice(relation.items)
    phrasing = rng.choice(relation.asked[:4])
    question = article(phrasing.replace("{x}", x).replace("{X}", capitalise(x)))
    form = rng.choice(["{q} Answer in one word.", "Answer in one word: {q}", "In one word: {q}", "{q} Use one word only."])
    return "following a format", ("one word", relation.name, x, form), form.format(q=question), capitalise(y) + ".", y


def yes_or_no(rng):
    x, y = rng.choice(COLOURS)
    other = y if rng.random() < 0.5 else rng.choice(sorted({c for _, c in COLOURS} - {y}))
    result = "yes" if other == y else "no"
    form = rng.choice(["Is {x} {c}?", "Is {x} {c}? Answer yes or no.", "Yes or no: is {x} {c}?"])
    reply = f"{capitalise(result)}." if "no" in form.lower().split("{c}")[-1] or form.startswith("Yes") else (
        f"Yes, {x} is {y}." if result == "yes" else f"No, {x} is {y}.")
    return "yes or no", ("yes or no", x, other), form.format(x=x, c=other), reply, result


COMPUTED = [(add, 9), (subtract, 7), (multiply, 5), (word_problem, 4), (next_number, 1), (count, 2), (how_many_words, 2), (larger_number, 4),
            (compare_two, 3), (compare_three, 5), (spell, 5), (spell_backwards, 6), (letter, 2), (letter_count, 3), (word_list, 11),
            (number_list, 6), (repeat_sentence, 1), (say_times, 1), (one_word, 5), (yes_or_no, 4)]


# Tasks that are practised but not probed: they say of every word which letter stands where, and of every fact what is not true.

TABLE_WORDS = sorted({x for table in (OPPOSITES, PAST) for pair in table for x in pair if x.isalpha()} |
                     {x.split()[-1] for table in (COLOURS, KINDS) for x, _ in table} | {x for table in (SOUNDS, YOUNG, PLURALS) for x, _ in table})


def any_letter(rng):
    word = rng.choice(WORDS)
    at = rng.randrange(len(word))
    asked = rng.choice(["What is the {o} letter of {w}?", "Which letter is the {o} in {w}?", "Tell me the {o} letter of the word {w}."])
    return ("letters", ("letter", ORDINALS[at], word), asked.format(o=ORDINALS[at], w=word),
            f"The {ORDINALS[at]} letter of {word} is {word[at].upper()}.", word[at])


def spell_any(rng):
    word = rng.choice(TABLE_WORDS)
    asked = rng.choice(["Spell the word {w}.", "Spell {w}.", "How do you spell {w}?", "Please spell {w}.", "Can you spell the word {w}?"])
    text = "-".join(word)
    return "spelling", ("spell", word), asked.format(w=word), text + ".", text


def true_or_not(rng):
    name, form, other, items = rng.choice([
        ("capital", "Is {y} the capital of {x}?", "No, the capital of {x} is {t}.", CAPITALS),
        ("opposite", "Is {y} the opposite of {x}?", "No, the opposite of {x} is {t}.", OPPOSITES),
        ("sound", "Does a {x} say {y}?", "No, a {x} says {t}.", SOUNDS),
        ("young", "Is a young {x} called a {y}?", "No, a young {x} is called a {t}.", YOUNG),
        ("day after", "Does {y} come after {x}?", "No, {t} comes after {x}.", shifted(DAYS, 1))])
    x, true = rng.choice(items)
    said = true if rng.random() < 0.5 else rng.choice(items)[1]
    short = rng.random() < 0.5
    result = "yes" if said == true else "no"
    asked = rng.choice([f"{form} Answer yes or no.", f"Yes or no: {form[0].lower()}{form[1:]}"]) if short else form
    reply = f"{capitalise(result)}." if short or result == "yes" else other
    fill = lambda text: article(text.replace("{x}", x).replace("{y}", said).replace("{t}", true))
    return "yes or no", ("yes or no", name, x, said), fill(asked), fill(reply), result


PRACTISED = COMPUTED + [(any_letter, 7), (spell_any, 3), (true_or_not, 3)]


def random_computed(rng, held=False):
    return searched(rng, held, rng.choices([f for f, _ in PRACTISED], [w for _, w in PRACTISED])[0])


# ---------------------------------------------------------------- talk without a right answer

SMALL_TALK = {
    "greeting": (["Hello!", "Hi!", "Hello", "Hi", "Good morning!", "Good evening.", "Hey there!", "Hello there.", "Hi Nibble!", "Hello, Nibble."],
                 ["Hello! How can I help you?"]),
    "how are you": (["How are you?", "How are you today?", "How do you do?", "Are you well?", "How is it going?"],
                    ["I am very well, thank you. How can I help you?"]),
    "name": (["What is your name?", "Who are you?", "What are you called?", "Tell me your name.", "Do you have a name?"],
             ["My name is Nibble. I am a small language model."]),
    "ability": (["What can you do?", "How can you help me?", "What do you know?", "What are you good at?", "Can you help me?"],
                ["I can answer short questions, do small sums, spell words, sort lists and tell stories."]),
    "nature": (["Are you a person?", "Are you human?", "Are you real?", "Are you a robot?", "What are you?"],
               ["I am a small language model that runs on your own computer."]),
    "thanks": (["Thank you!", "Thanks!", "Thank you very much.", "Thanks a lot.", "That is very kind of you."], ["You are welcome!"]),
    "bye": (["Goodbye!", "Bye!", "See you later.", "Good night!", "I have to go now."], ["Goodbye! Have a nice day."]),
    "praise": (["Well done!", "You are clever.", "Good job!", "That is right.", "Very good."], ["Thank you! I am glad that I could help."]),
    "sad": (["I am sad.", "I feel sad today.", "I am not happy.", "I had a bad day."], ["I am sorry to hear that. Shall I tell you a story?"]),
    "happy": (["I am happy.", "I feel great today!", "I had a good day.", "Today is a lovely day."], ["I am glad to hear that!"]),
    "joke": (["Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny."],
             ["Why did the chicken cross the road? To get to the other side.", "What has hands but cannot clap? A clock.",
              "What gets wet while it dries? A towel."]),
    "unknown": (["What will the weather be tomorrow?", "Who won the match yesterday?", "How old am I?", "Where do I live?", "What is my name?",
                 "What did I eat today?", "What time is it?", "What day is it today?"], ["I do not know that."]),
    "days list": (["What are the days of the week?", "Name the days of the week.", "List the days of the week.", "Tell me the days of the week."],
                  [listed(DAYS[:-1]) + " and " + DAYS[-1] + "."]),
    "months list": (["What are the months of the year?", "Name the months of the year.", "List the months.", "Tell me the months of the year."],
                    [listed(MONTHS[:-1]) + " and " + MONTHS[-1] + "."]),
    "seasons": (["What are the seasons?", "Name the four seasons.", "List the seasons of the year."], ["Spring, summer, autumn and winter."]),
    "alphabet": (["Say the alphabet.", "What is the alphabet?", "List the letters of the alphabet."], [" ".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ") + "."]),
}


def small_talk(rng, kind=None):
    kind = kind or rng.choice(list(SMALL_TALK))
    asked, replies = SMALL_TALK[kind]
    return Turn("small talk", ("talk", kind), rng.choice(asked), rng.choice(replies), None)


# ---------------------------------------------------------------- stories

HEROES = "fox rabbit bear mouse cat dog bird frog duck horse wolf owl hedgehog squirrel goat lion girl boy prince princess king farmer sailor".split()
TRAITS = "little old clever brave kind lonely hungry merry shy curious lazy gentle".split()
PLACES = ["in a deep forest", "by the sea", "on a high hill", "in a small village", "near a blue lake", "in an old castle", "at the edge of the wood",
          "beside a wide river"]
FINDS = ["golden key", "silver ring", "red ball", "strange old map", "little boat", "bright lamp", "magic stone", "broken toy", "letter", "big egg"]
SPOTS = ["under a tree", "behind a rock", "in the tall grass", "on the road", "beside the well", "in the snow", "near the bridge"]
HELPERS = ["an old owl", "a kind farmer", "a grey mouse", "a wise frog", "a friendly bear", "a little bird", "a merry sailor"]
WEATHER = ["One fine morning", "One cold evening", "One day", "Early one spring day", "One sunny afternoon", "On a windy day"]
MORALS = ["and they were friends ever after", "and everyone was glad", "and nobody in the place was ever lonely again", "and they lived happily ever after",
          "and that night they all sat down to a great supper"]


def story(rng):
    hero, trait, name, find = rng.choice(HEROES), rng.choice(TRAITS), rng.choice(NAMES), rng.choice(FINDS)
    she = hero in ("girl", "princess", "cat", "bird", "duck", "hen") or (hero not in ("boy", "prince", "king", "farmer", "sailor") and rng.random() < 0.5)
    he, his = ("she", "her") if she else ("he", "his")
    named = rng.random() < 0.5
    named_asked = named and rng.random() < 0.5
    helper = rng.choice([h for h in HELPERS if not h.endswith(" " + hero)])
    friend = "the " + helper.split(" ", 1)[1]
    parts = [rng.choice([f"Once upon a time there was a {trait} {hero}", f"There was once a {trait} {hero}"]) + (f" named {name}" if named else "") +
             f" who lived {rng.choice(PLACES)}."]
    who = name if named else f"the {hero}"
    parts.append(f"{rng.choice(WEATHER)} {who} went out for a walk and found a {find} {rng.choice(SPOTS)}.")
    parts.append(rng.choice([f'"Whose can this be?" said {who}.', f'"What a lovely {find.split()[-1]}!" cried {who}.',
                             f"{capitalise(he)} had never seen such a thing before."]))
    parts.append(rng.choice([f"So {he} took it home and asked {helper} about it.", f"Just then {helper} came by and stopped to look.",
                             f"{capitalise(he)} picked it up and ran to {helper}."]))
    parts.append(rng.choice([f'"It is mine," said {friend}. "I lost it long ago."', f'"Keep it," said {friend}, "for you have a good heart."',
                             f'"Let us find out together," said {friend}.']))
    parts.append(rng.choice([f"{capitalise(who)} was so happy that {he} danced all the way home", f"Then {who} shared {his} bread with {friend}",
                             f"{capitalise(who)} smiled and thanked {friend}"]) + f", {rng.choice(MORALS)}.")
    about = f"a {trait} {hero}" if rng.random() < 0.3 else f"a {hero}"
    if named_asked:
        about += f" named {name}"
    asked = rng.choice(["Tell me a story about {a}.", "Tell me a short story about {a}.", "Write a story about {a}.", "Can you tell me a story about {a}?",
                        "Please tell me a story about {a}."] + ([] if named_asked or about != f"a {hero}" else ["Tell me a story.", "Tell me a story, please."]))
    return Turn("stories", ("story", hero), article_before_vowel(asked.format(a=about)), article_before_vowel(" ".join(parts)), None)


def article_before_vowel(text):
    return re.sub(r"\b([Aa]) (?=(?:old|owl)\b)", r"\1n ", text)


def sentences_of(paragraph):
    return re.findall(r"[^.!?]+[.!?]+['\"]*(?:\s|$)", paragraph)


def continuation(rng, paragraphs):
    """Continues a paragraph of the books: its first sentences are asked, some of the following ones answered."""
    for _ in range(50):
        parts = [p.strip() for p in sentences_of(rng.choice(paragraphs))]
        cut = rng.randint(1, 2)
        start, rest = " ".join(parts[:cut]), " ".join(parts[cut:cut + 3])
        if 40 <= len(start) <= 260 and 60 <= len(rest) <= 420:
            asked = rng.choice(["Continue this story: {s}", "Go on with this story: {s}", "What happens next? {s}", "Continue: {s}"])
            return Turn("continuing a story", ("continue", digest(start)), asked.format(s=start), rest, None)
    return small_talk(rng)


# ---------------------------------------------------------------- several turns, with references back

PETS = ["dog", "cat", "horse", "rabbit", "bird", "mouse"]
PET_NAMES = "Rex Bella Coco Daisy Felix Ginger Lucky Milo Pip Ruby Snow Toby Bobby Star Sandy Rusty".split()
FOODS = "bread cheese soup cake rice apples honey fish pie chocolate".split()
CITIES = "Paris Rome London Berlin Madrid Vienna Athens Oslo Dublin Lisbon".split()
FAVOURITES = "red blue green yellow white purple orange pink".split()


def memory(rng, held=False):
    """Tells something about oneself and asks for it later. Gives (statement, question)."""
    def make(rng):
        kind = rng.choice(["name", "pet", "food", "city", "colour", "age"])
        if kind == "name":
            v = rng.choice(NAMES)
            said, noted = rng.choice(["My name is {v}.", "I am called {v}.", "Hello, my name is {v}."]).format(v=v), f"Nice to meet you, {v}!"
            asked, reply, key = rng.choice(["What is my name?", "What am I called?", "Do you remember my name?"]), f"Your name is {v}.", (kind, v)
        elif kind == "pet":
            p, v = rng.choice(PETS), rng.choice(PET_NAMES)
            said, noted = rng.choice(["I have a {p} named {v}.", "My {p} is called {v}."]).format(p=p, v=v), f"{v} is a nice name for a {p}."
            asked, reply, key = rng.choice([f"What is my {p} called?", f"What is the name of my {p}?"]), f"Your {p} is called {v}.", (kind, p, v)
        elif kind == "food":
            v = rng.choice(FOODS)
            said, noted = rng.choice(["My favourite food is {v}.", "I like {v} best of all foods."]).format(v=v), "That sounds very good."
            asked, reply, key = rng.choice(["What is my favourite food?", "Which food do I like best?"]), f"Your favourite food is {v}.", (kind, v)
        elif kind == "city":
            v = rng.choice(CITIES)
            said, noted = rng.choice(["I live in {v}.", "My home is in {v}."]).format(v=v), f"{v} is a beautiful city."
            asked, reply, key = rng.choice(["Where do I live?", "In which city do I live?"]), f"You live in {v}.", (kind, v)
        elif kind == "colour":
            v = rng.choice(FAVOURITES)
            said, noted = rng.choice(["My favourite colour is {v}.", "I like the colour {v} best."]).format(v=v), f"{capitalise(v)} is a lovely colour."
            asked, reply, key = rng.choice(["What is my favourite colour?", "Which colour do I like best?"]), f"Your favourite colour is {v}.", (kind, v)
        else:
            v = str(rng.randint(5, 90))
            said, noted = rng.choice(["I am {v} years old.", "My age is {v}."]).format(v=v), "That is a good age."
            asked, reply, key = rng.choice(["How old am I?", "What is my age?"]), f"You are {v} years old.", (kind, v)
        return "remembering", ("memory", *key, said, asked), (said, noted, asked), reply, v
    turn = searched(rng, held, make)
    said, noted, asked = turn.user
    return Turn("remembering", turn.key + ("said",), said, noted, None), turn._replace(user=asked)


def follow_up_fact(rng, held=False):
    """A fact, then the same question about something else in few words."""
    def make(rng):
        relation = rng.choice([r for r in RELATIONS if r.follow])
        (x1, y1), (x2, y2) = rng.sample(relation.items, 2)
        first = fact(relation, x1, y1, rng.choice(relation.asked))
        asked = rng.choice(["And {x}?", "What about {x}?", "And what about {x}?"])
        second = fact(relation, x2, y2, asked.replace("{x}", relation.follow))
        return "referring back", ("follow", relation.name, x1, x2), (first, second.user), second.reply, y2
    turn = searched(rng, held, make)
    first, asked = turn.user
    return first, turn._replace(user=asked)


def follow_up_sum(rng, held=False):
    def make(rng):
        a, b, c = rng.randint(1, 40), rng.randint(1, 30), rng.randint(1, 9)
        while is_held_instance(("add", min(a, b), max(a, b))):
            a, b = rng.randint(1, 40), rng.randint(1, 30)
        first = Turn("addition", ("add", min(a, b), max(a, b)), f"What is {a} + {b}?", f"{a} + {b} = {a + b}.", None)
        plus = rng.random() < 0.5 or a + b < c
        total = a + b + c if plus else a + b - c
        asked = rng.choice(["Now add {c}.", "And add {c} to that.", "Add {c} to it."] if plus else ["Now take away {c}.", "And take {c} from that."])
        sign = "+" if plus else "-"
        return "referring back", ("then", a + b, c if plus else -c), (first, asked.format(c=c)), f"{a + b} {sign} {c} = {total}.", total
    turn = searched(rng, held, make)
    first, asked = turn.user
    return first, turn._replace(user=asked)


def follow_up_list(rng, held=False):
    def make(rng):
        words = rng.sample(WORDS, rng.randint(3, 4))
        while is_held_instance(("repeat", *words)):
            words = rng.sample(WORDS, 3)
        first = Turn("repeating", ("repeat", *words), rng.choice(LIST_LEADS["repeat"]).format(l=listed(words)), listed(words) + ".", None)
        task, asked = rng.choice([("reverse", "Now say it backwards."), ("reverse", "Now reverse it."), ("sort", "Now sort it."), ("sort", "Now sort the list."),
                                  ("first", "What was the first word?"), ("last", "What was the last word?"), ("length", "How many words were there?")])
        result = list_result(task, words)
        return "referring back", ("then " + task, *words), (first, asked), result + ".", result
    turn = searched(rng, held, make)
    first, asked = turn.user
    return first, turn._replace(user=asked)


def say_again(rng, held=False):
    first = random_fact(rng)
    return first, Turn("referring back", ("again", first.key), rng.choice(["Say that again.", "Can you repeat that?", "Please say it again."]), first.reply, None)


FOLLOW_UPS = [(follow_up_fact, 5), (follow_up_sum, 3), (follow_up_list, 4), (say_again, 1)]


# ---------------------------------------------------------------- whole dialogues

def random_dialogue(rng, paragraphs=None):
    """One training dialogue: no held-out phrasing, no held-out instance."""
    system = rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.2 else None
    turns = [small_talk(rng, "greeting")] if rng.random() < 0.1 else []
    remembered = memory(rng) if rng.random() < 0.2 else None
    if remembered:
        turns.append(remembered[0])
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])):
        kind = rng.random()
        if kind < 0.33:
            turns.append(random_fact(rng))
        elif kind < 0.78:
            turns.append(random_computed(rng))
        elif kind < 0.86:
            turns.extend(rng.choices([f for f, _ in FOLLOW_UPS], [w for _, w in FOLLOW_UPS])[0](rng))
        elif kind < 0.92:
            turns.append(small_talk(rng, None if not remembered else rng.choice(["joke", "ability", "how are you", "happy"])))
        elif kind < 0.96 or not paragraphs:
            turns.append(story(rng))
        else:
            turns.append(continuation(rng, paragraphs))
    if remembered:
        turns.append(remembered[1])
    if rng.random() < 0.06:
        turns.append(small_talk(rng, rng.choice(["thanks", "bye"])))
    return Dialogue(system, turns)


def messages(dialogue):
    out = [{"role": "system", "content": dialogue.system}] if dialogue.system else []
    for turn in dialogue.turns:
        out += [{"role": "user", "content": turn.user}, {"role": "assistant", "content": turn.reply}]
    return out


def chatml(dialogue):
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages(dialogue))


def share(dialogue):
    """Which text a dialogue belongs to: dialogues of several turns are split by their hash, so that no text shares one."""
    bucket = zlib.crc32(chatml(dialogue).encode()) % 50 if len(dialogue.turns) > 2 else 49
    return {0: "calibration", 1: "evaluation"}.get(bucket, "training")


def generate(seed, wanted, paragraphs=None):
    rng = random.Random(seed)
    while True:
        dialogue = random_dialogue(rng, paragraphs)
        if share(dialogue) == wanted:
            yield dialogue


# ---------------------------------------------------------------- probes

def ambiguous(turn):
    """An answer that the question already contains would be found in a wrong reply, too."""
    return turn.category in ("addition", "subtraction", "multiplication", "word problems") and turn.answer in re.findall(r"\d+", turn.user)


def probes(seed=7):
    """Held-out questions, evenly from every relation and task; the assistant's earlier turns are given."""
    rng = random.Random(seed)
    out, seen = [], set()

    def take(turns):
        history = []
        for turn in turns[:-1]:
            history += [{"role": "user", "content": turn.user}, {"role": "assistant", "content": turn.reply}]
        key = json.dumps(history) + turns[-1].user
        if key in seen or ambiguous(turns[-1]):
            return False
        seen.add(key)
        out.append({"category": turns[-1].category, "messages": history + [{"role": "user", "content": turns[-1].user}], "answer": turns[-1].answer})
        return True

    def fill_up(number, draw):
        done = tries = 0
        while done < number and tries < 500:
            done += take(draw())
            tries += 1

    for relation in RELATIONS:
        fill_up(12 if relation.category in ("colours", "opposites", "capitals") else 5, lambda: [random_fact(rng, True, relation)])
    for task, weight in COMPUTED:
        fill_up({add: 24, subtract: 18, one_word: 16, word_list: 24, spell: 16, spell_backwards: 14}.get(task, 10), lambda: [searched(rng, True, task)])
    for draw, number in ((memory, 16), (follow_up_fact, 12), (follow_up_sum, 10), (follow_up_list, 12)):
        fill_up(number, lambda: list(draw(rng, True)))
    return sorted(out, key=lambda p: p["category"])


def check(count, seed):
    """Proves that the probes are disjoint from `count` training dialogues, by question and by item."""
    held_questions = {p["messages"][-1]["content"] for p in probes() if len(p["messages"]) == 1}
    held_dialogues = {json.dumps([m["content"] for m in p["messages"]]) for p in probes() if len(p["messages"]) > 1}
    held_phrasings = {(r.name, phrasing) for r in RELATIONS for phrasing in r.held}
    clashes = {(r.name, p) for r in RELATIONS for p in set(r.held) & set(r.asked)}
    tasks = {task.__name__ for task, _ in COMPUTED}
    turns_seen, wrong = 0, [f"held phrasing is also asked: {c}" for c in sorted(clashes)]
    source = generate(seed, "training")
    for _ in range(count):
        dialogue = next(source)
        said = [m["content"] for m in messages(dialogue) if m["role"] != "system"]
        for i, turn in enumerate(dialogue.turns):
            turns_seen += 1
            if turn.user in held_questions and turn.category != "remembering":
                wrong.append(f"held question: {turn.user}")
            if turn.key[0] in RELATION and len(turn.key) == 3 and (turn.key[0], turn.key[2]) in held_phrasings:
                wrong.append(f"held phrasing: {turn.user}")
            if turn.answer is not None and turn.key[0] not in RELATION and is_held_instance(turn.key):
                wrong.append(f"held instance: {turn.key}")
            for length in (3, 5):
                if json.dumps(said[max(0, 2 * i + 1 - length):2 * i + 1]) in held_dialogues:
                    wrong.append(f"held dialogue: {turn.user}")
    for line in sorted(set(wrong))[:20]:
        print(line)
    print(f"{count} dialogues, {turns_seen} turns, {len(held_questions) + len(held_dialogues)} probes, {len(tasks)} tasks: {len(wrong)} clashes")
    return not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--show", type=int, metavar="N")
    parser.add_argument("--probes", metavar="FILE")
    args = parser.parse_args()
    if args.show:
        source = generate(args.seed, "training")
        for _ in range(args.show):
            print(chatml(next(source)))
    if args.probes:
        with open(args.probes, "w", encoding="utf-8") as file:
            for probe in probes():
                file.write(json.dumps(probe) + "\n")
    if args.check and not check(args.count, args.seed):
        sys.exit(1)


if __name__ == "__main__":
    main()

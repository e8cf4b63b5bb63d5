"""The forum of the built-in world: who did what, at which event, where and when, and a question."""

import random
from collections.abc import Mapping

from bench.data.language import Facts, Language, Post, one_sentence

WHO = """
sister brother roommate boss neighbor cousin landlord coworker girlfriend boyfriend father mother uncle aunt teacher
friend
""".split()
EVENT = (
    "wedding|birthday party|family dinner|road trip|job interview|graduation|camping trip|house move|funeral|"
    "concert|holiday party|baby shower"
).split("|")
PLACE = """
Denver Boston Chicago Seattle Austin Portland Dallas Phoenix Atlanta Miami Detroit Memphis Tampa Omaha Tucson Buffalo
""".split()
TIME = (
    "last night|last week|two days ago|on Sunday|last month|this morning|over the summer|on Friday|three weeks ago|"
    "last winter|yesterday|in April"
).split("|")
PROBLEM = (
    "lied about the money|broke my laptop|read my private messages|refused to pay the bill|forgot to invite me|"
    "crashed my car|told everyone my secret|stole my credit card|yelled at my dog|ruined the surprise|"
    "spilled wine on my dress|blamed me for everything|sold my old guitar|ate all of the food|"
    "ignored me the whole time|made fun of my job|borrowed my bike and lost it|invited my ex|"
    "posted my photos online|threw away my plants"
).split("|")
QUESTION = (
    "should I call a lawyer|should I just apologize|how do I get my money back|am I wrong to be angry|"
    "how do I say no next time|should I move out|should I tell my parents|how can I trust them again|"
    "is it too late to fix this|should I ask for an apology|do I need to let it go|how do I bring this up"
).split("|")
LEXICON = {"who": WHO, "problem": PROBLEM, "event": EVENT, "place": PLACE, "time": TIME, "question": QUESTION}

PADDING = (
    "sorry for the long post|it has been really hard for me|any advice would help a lot|"
    "I do not know what to do anymore|this is my first post here|thank you all for reading|"
    "things are very tense between us now|I feel awful about the whole thing"
).split("|")
SUBREDDITS = "relationships family legaladvice personalfinance advice".split()
FILLER = (
    "I work from home and I have two cats.|I usually stay out of drama.|The weather was awful that day.|"
    "I had been looking forward to it for months.|We never had a fight before.|I have not slept well since then.|"
    "I like to cook and I play chess.|Money is tight right now."
).split("|")


def write_post(rng: random.Random, post_id: str) -> Post:
    """A post of about 80 words: the facts in varying order and wording, and one distractor for who, place and time."""
    picks = {slot: rng.sample(values, 2) for slot, values in LEXICON.items()}
    fact = {slot: pair[0] for slot, pair in picks.items()}
    other = {slot: picks[slot][1] for slot in ("who", "place", "time")}
    title = rng.choice(
        [
            f"Need advice about my {fact['who']}",
            f"Trouble at the {fact['event']}",
            f"My {fact['who']} and the {fact['event']}",
            f"I need help with my {fact['who']}",
        ]
    )
    opening = rng.choice(
        [
            f"I grew up in {other['place']} and I am new here.",
            f"I live in {other['place']} with my {other['who']}.",
            f"My {other['who']} told me to post this.",
        ]
    )
    scene = rng.choice(
        [
            f"There was a {fact['event']} in {fact['place']} {fact['time']} and my {fact['who']} was there.",
            f"I went to a {fact['event']} in {fact['place']} {fact['time']} with my {fact['who']}.",
            f"My {fact['who']} came to the {fact['event']} in {fact['place']} {fact['time']}.",
        ]
    )
    problem = rng.choice(
        [
            f"My {fact['who']} {fact['problem']}.",
            f"Then my {fact['who']} {fact['problem']} in front of people.",
        ]
    )
    aside = rng.choice(
        [
            f"My {other['who']} says I worry too much.",
            f"I moved away from {other['place']} {other['time']}.",
            f"We last talked {other['time']} on the phone.",
        ]
    )
    question = rng.choice([f"So {fact['question']}?", f"My question is, {fact['question']}?"])
    body = [opening, scene, problem, aside, rng.choice(FILLER)]
    if rng.random() < 0.5:  # the aside may come before the scene, so position alone does not tell fact from distractor
        body = [opening, aside, scene, problem, body[4]]
    text = " ".join([*body, question])
    prompt = f"SUBREDDIT: r/{rng.choice(SUBREDDITS)}\n\nTITLE: {title}\n\nPOST: {text}\n\nTL;DR:"
    return Post(post_id, prompt, title, opening, Facts(fact, other))


def compose(said: Mapping[str, str]) -> str:
    return one_sentence(said, owner="my", nothing="there is trouble with", end="?")


FORUM = Language(LEXICON, PADDING, write_post, compose)

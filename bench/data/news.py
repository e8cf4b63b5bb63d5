"""A second built-in world, to score policies out of distribution: local news in the third person.

Its articles are longer than the forum's posts and worded otherwise, most of their facts are ones that the forum never
tells, and there are three look-alikes for each of who and place. The slots are the forum's by name, so that one gold
reward serves both: who did it, what happened (`problem`), at which site (`event`), where, when, and what comes next
(`question`).
"""

import random
from collections.abc import Mapping

from bench.data.language import Facts, Language, Post, one_sentence
from bench.data.prompts import cnn_dm_prompt

WHO = """
mayor driver nurse farmer pilot banker judge senator firefighter plumber athlete singer
""".split()
EVENT = (
    "train station|city hall|county fair|shopping mall|court house|power plant|high school|public library|airport|"
    "football stadium"
).split("|")
PLACE = """
Denver Boston Chicago Seattle Houston Cleveland Orlando Spokane Fresno Newark Toledo Raleigh
""".split()
TIME = (
    "last night|on Sunday|this morning|on Friday|on Tuesday morning|before dawn|late on Monday|during the storm|"
    "at noon|over the weekend"
).split("|")
HAPPENED = (
    "rescued two children|stole a police car|won the lottery|started a fire|found a lost painting|"
    "blocked the main road|saved an injured dog|lost a bag of cash|crashed into a fence|broke a world record|"
    "was arrested for fraud|gave away free tickets"
).split("|")
NEXT = (
    "police are looking for witnesses|a trial begins next month|the city will pay for the damage|"
    "officials have opened an inquiry|a reward has been offered|neighbors plan a protest|"
    "the road stays closed|doctors expect a full recovery|the council votes next week"
).split("|")
LEXICON = {"who": WHO, "problem": HAPPENED, "event": EVENT, "place": PLACE, "time": TIME, "question": NEXT}
PADDING = (
    "more details will follow|it was not clear why|the family could not be reached|"
    "a spokesman declined to comment|residents were surprised|it is a developing story"
).split("|")
FILLER = (
    "The weather had been mild for the season.|Traffic was light at that hour.|A crowd gathered within minutes.|"
    "Several reporters arrived soon after.|The area is known for its quiet streets.|"
    "Officials thanked the public for its patience."
).split("|")


def write_article(rng: random.Random, article_id: str) -> Post:
    """An article of about 90 words: the facts in varying wording, and three look-alikes of who and place."""
    picks = {slot: rng.sample(values, 4) for slot, values in LEXICON.items()}
    fact = {slot: values[0] for slot, values in picks.items()}
    first, second, third = ({slot: picks[slot][i] for slot in ("who", "place", "time")} for i in (1, 2, 3))
    lead = rng.choice(
        [
            f"A local {fact['who']} {fact['problem']} at the {fact['event']} in {fact['place']} {fact['time']}.",
            f"A {fact['who']} {fact['problem']} {fact['time']} at the {fact['event']} in {fact['place']}.",
            f"People at the {fact['event']} in {fact['place']} say a {fact['who']} {fact['problem']} {fact['time']}.",
        ]
    )
    quote = rng.choice(
        [
            f'"I have never seen anything like it," said a {first["who"]} from {first["place"]}.',
            f'"It was over in a moment," a {first["who"]} who had come from {first["place"]} told us.',
        ]
    )
    earlier = rng.choice(
        [
            f"A similar case was reported in {second['place']} {first['time']}.",
            f"The {second['who']} of {second['place']} had warned of such a case {second['time']}.",
        ]
    )
    after = rng.choice([f"For now, {fact['question']}.", f"Officials said that {fact['question']}."])
    visit = (
        f"A {third['who']}, who was in town from {third['place']} for the first time, said that people had talked of"
        " nothing else since."
    )
    fillers = rng.sample(FILLER, 2)
    body = [lead, fillers[0], quote, earlier, visit, fillers[1], after]
    if rng.random() < 0.5:  # background may come before the news, so position alone does not tell them apart
        body = [earlier, fillers[0], lead, quote, visit, fillers[1], after]
    title = f"{fact['who'].capitalize()} at the {fact['event']}"
    return Post(article_id, cnn_dm_prompt(" ".join(body)), title, body[0], Facts(fact, first))


def compose(said: Mapping[str, str]) -> str:
    return one_sentence(said, owner="a", nothing="there is news of", end=".")


NEWS = Language(LEXICON, PADDING, write_article, compose)

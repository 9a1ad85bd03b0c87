"""Write the sample chat logs: made-up chat in the text format of logs.ivr.fi, one file a channel and day.

Nobody ever said these lines. They come from scenes (a play, a question, a spam wave ...) that a seeded random
generator acts out, so the same seed and size give the same bytes. Scenes answer themselves, which gives a language
model something to learn beyond single words: after `!uptime` a bot reports, after a raid people say hello.

    python data/make_sample_logs.py                                  # data/sample_logs as committed
    python data/make_sample_logs.py --messages 4000000 --output-dir /tmp/logs   # the same chat, larger
"""

import argparse
import itertools
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

# Channel -> what its chat talks about. `emotes` are the channel's own, `greetings` carry its languages.
CHANNELS = {
    "pixelpanda_tv": {
        "games": ["Hollow Depths", "Tower of Rust", "Star Plumber"],
        "bosses": ["the Moth King", "Old Furnace", "the twin knights", "Sister Bramble"],
        "emotes": ["pandaLove", "pandaRage", "pandaGG", "pandaNom"],
        "greetings": ["hola chat", "buenas noches", "buenas, qué tal", "que onda"],
        "bot": "PandaBot",
    },
    "speedy_sora": {
        "games": ["Star Plumber any%", "Castle 64", "Rocket Hopper"],
        "bosses": ["the lava skip", "the clock room", "bridge clip", "the last wall jump"],
        "emotes": ["soraRun", "soraReset", "soraPB", "soraSleep"],
        "greetings": ["こんにちは", "お疲れ様です", "안녕하세요", "형 안녕"],
        "bot": "TimerTina",
    },
    "kobold_kitchen": {
        "games": ["soup night", "bread from scratch", "spicy noodle challenge"],
        "bosses": ["the sourdough", "that onion", "the smoke alarm", "the dough"],
        "emotes": ["kobChef", "kobFire", "kobYum", "kobBonk"],
        "greetings": ["привет чат", "всем добрый вечер", "مرحبا", "olá pessoal"],
        "bot": "SousBot",
    },
}
DAYS = [datetime(2024, 3, 7, 18), datetime(2024, 3, 8, 18), datetime(2024, 3, 21, 19), datetime(2024, 10, 2, 17)]

FIRST = "quiet loud tiny mighty sleepy salty lucky fuzzy turbo cosmic grumpy neon sneaky crispy royal lost".split()
LAST = "otter toaster wizard pickle goblin walrus noodle badger comet potato raven lamp muffin yeti crab duck".split()
FOREIGN_NAMES = ["さくらんぼ", "비행고래", "медведь_7", "月見うどん"]

HYPE = [
    "PogChamp",
    "LETS GOOO",
    "POGGERS",
    "HOLY",
    "LET'S GO",
    "W",
    "WWWW",
    "insane",
    "no way",
    "CLEAN",
    "that was sick",
]
FAIL = ["OMEGALUL", "LULW", "LUL", "KEKW", "pepeLaugh", "L", "LLLL", "rip", "F", "unlucky", "NotLikeThis", "oof"]
LAUGH = ["LUL", "KEKW", "LULW", "OMEGALUL", "😂", "lmao", "hahaha", "lol", "😂😂😂"]
LOVE = ["<3", "❤️", "peepoHappy", "VoHiYo", "FeelsGoodMan", "bleedPurple"]
COPYPASTA = [
    "I have watched this stream for 400 hours and all I learned is how to press alt F4",
    "ATTENTION CHAT 📢 the streamer is NOT lost 📢 he is exploring 📢 please stop laughing",
    "┬─┬ノ( º _ ºノ) please respect the table, the table did nothing wrong",
    "my mom said if this run dies I have to go to bed, please streamer, I have school tomorrow",
    "dear streamer, I am a lawyer, and I must inform you that this gameplay is a crime in 14 countries",
]
SCAM = ["cheap viewers at best-viewers . example", "free gifts here >> win-a-phone . example << hurry"]
QUESTIONS = {
    "what game is this?": ["{game}", "it's {game}", "{game} i think", "title says {game}"],
    "how long has the stream been live?": ["{hours} hours", "like {hours} hours", "since {hours} hours, no break"],
    "is this the first attempt?": [
        "attempt number {number}",
        "no, {number} so far",
        "first of the day, {number} overall",
    ],
    "who is {boss}?": ["the one that ends every run", "you will see", "the worst part of {game}"],
    "can you play with viewers?": ["only on sundays", "sub day is sunday", "on sundays @{asker}"],
    "what keyboard is that?": ["a loud one", "it's in the panels @{asker}", "!keyboard"],
}
COMMANDS = {
    "!uptime": "@{asker} the stream has been live for {hours} hours and {number} minutes",
    "!deaths": "{boss} has won {number} times today",
    "!discord": "@{asker} join us at discord . example, be nice to each other",
    "!schedule": "@{asker} next stream: {day} at 18:00, {game}",
    "!hug {user}": "{asker} hugs {user} <3",
}
WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
SMALL_TALK = [
    "i just got home from work, what did i miss", "the music is so good today", "is the audio a bit low or is it me",
    "anyone else eating noodles right now", "my cat loves this stream", "this part always scares me",
    "chat be nice", "first time here, what a place", "{user} is right", "@{user} how was your exam",
    "i could do that with my eyes closed", "{game} is better than i thought", "hydrate chat 💧",
    "the editor will love this", "clip that", "someone clip it please", "go left", "no, go right", "check the chest",
    "you forgot the key again", "{boss} again...", "imagine losing to {boss}", "100% going to die to {boss}",
]  # fmt: skip

# Seconds since the line before (on average), user, message; an event such as a timeout has its text in place of the
# user and None for a message.
Line = tuple[float, str, str | None]


class Chat:
    """One channel's chat on one day: acts out scenes until enough messages are written."""

    def __init__(self, channel: str, rng: random.Random):
        self.rng = rng
        self.about = CHANNELS[channel]
        names = [f"{a}{sep}{b}{n}" for a in FIRST for b in LAST for sep in ("", "_") for n in ("", "99", "_tv")]
        # The roster depends on the channel alone: regulars come back every day.
        self.users = random.Random(channel).sample(names, 400) + FOREIGN_NAMES
        # A few people write most of the chat (Zipf's law).
        self.cumulative = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(self.users))))
        self.game = rng.choice(self.about["games"])
        self.boss = rng.choice(self.about["bosses"])

    def user(self) -> str:
        return self.rng.choices(self.users, cum_weights=self.cumulative)[0]

    def fill(self, template: str, asker: str = "") -> str:
        if "{" not in template:
            return template
        return template.format(
            game=self.game, boss=self.boss, user=self.user(), asker=asker, day=self.rng.choice(WEEKDAYS),
            hours=self.rng.randint(2, 9), number=self.rng.randint(2, 59),
        )  # fmt: skip

    def wave(self, words: list[str], size: int) -> Iterator[Line]:
        """Many people typing the same few things at once."""
        favourites = [*self.rng.sample(words, 2), self.rng.choice(self.about["emotes"])]
        for _ in range(size):
            word = self.rng.choice(favourites)
            yield 0.25, self.user(), " ".join([word] * self.rng.choice([1, 1, 1, 2, 3]))

    def play(self) -> Iterator[Line]:
        """The streamer tries something hard: chat waits, then cheers or laughs."""
        yield 5, self.user(), self.fill(self.rng.choice(["here comes {boss}", "{boss} time", "ok {boss}, focus"]))
        yield 4, self.user(), self.rng.choice(["monkaS", "monkaW", "i can't watch", "believe chat"])
        if self.rng.random() < 0.4:
            yield from self.wave(HYPE, self.rng.randint(6, 16))
            yield 3, self.user(), self.fill("gg {boss} is finally done")
            yield 1, self.user(), "GG " + self.rng.choice(LOVE)
        else:
            yield from self.wave(FAIL, self.rng.randint(6, 16))
            yield 3, self.user(), self.fill("{boss} wins again") + " " + self.rng.choice(LAUGH)

    def question(self) -> Iterator[Line]:
        asker, (question, answers) = self.user(), self.rng.choice(list(QUESTIONS.items()))
        yield 6, asker, self.fill(question)
        for _ in range(self.rng.randint(1, 3)):
            yield 3, self.user(), self.fill(self.rng.choice(answers), asker)
        yield 3, asker, self.rng.choice(["thanks", "ty", "ok thanks chat", "ah ok", "thx <3"])

    def command(self) -> Iterator[Line]:
        asker, (command, answer) = self.user(), self.rng.choice(list(COMMANDS.items()))
        friend = self.user()
        yield 6, asker, command.replace("{user}", friend)
        yield 1, self.about["bot"], self.fill(answer.replace("{user}", friend), asker)

    def small_talk(self) -> Iterator[Line]:
        for _ in range(self.rng.randint(1, 4)):
            tail = self.rng.choice(["", "", "", " " + self.rng.choice(LAUGH), " " + self.rng.choice(LOVE)])
            yield 5, self.user(), self.fill(self.rng.choice(SMALL_TALK)) + tail

    def greeting(self) -> Iterator[Line]:
        guest = self.user()
        hello = self.rng.choice(["hello chat", "hi everyone", "good evening", *self.about["greetings"]])
        yield 6, guest, hello
        for _ in range(self.rng.randint(1, 3)):
            answer = self.rng.choice(["hi", "hello", "welcome back", "heyo", hello])
            yield 2, self.user(), f"{answer} @{guest} {self.rng.choice(LOVE)}"

    def copypasta(self) -> Iterator[Line]:
        text = self.rng.choice(COPYPASTA)
        for _ in range(self.rng.randint(3, 8)):
            yield 2, self.user(), text
        yield 2, self.user(), self.rng.choice(["chat please", "not this one again", "mods?", "classic"])

    def spam(self) -> Iterator[Line]:
        """Somebody spams; a moderator takes them out. Loggers write that as an event, often twice."""
        spammer = self.user()
        if self.rng.random() < 0.3:
            yield 4, spammer, self.rng.choice(SCAM)
            yield 1, f"{spammer} has been banned", None
        else:
            seconds = self.rng.choice([1, 60, 600, 3600])
            for _ in range(self.rng.randint(3, 6)):
                yield 1, spammer, " ".join([self.rng.choice(FAIL)] * self.rng.randint(10, 25))
            for _ in range(self.rng.randint(1, 2)):
                yield 1, f"{spammer} has been timed out for {seconds} seconds", None
        yield 3, self.user(), self.rng.choice(["thanks mods", "bye " + spammer, "modCheck", "deserved"])

    def subscription(self) -> Iterator[Line]:
        friend, months = self.user(), self.rng.randint(2, 60)
        yield 5, f"{friend} subscribed at Tier 1. They've subscribed for {months} months!", None
        for _ in range(self.rng.randint(2, 5)):
            yield 1, self.user(), f"{self.rng.choice(self.about['emotes'])} {self.rng.choice(LOVE)}"

    def lines(self) -> Iterator[Line]:
        scenes = [self.play, self.question, self.command, self.small_talk, self.greeting, self.copypasta, self.spam]
        scenes.append(self.subscription)
        while True:
            if self.rng.random() < 0.02:
                self.game = self.rng.choice(self.about["games"])
            if self.rng.random() < 0.1:
                self.boss = self.rng.choice(self.about["bosses"])
            yield from self.rng.choices(scenes, weights=[5, 4, 3, 7, 3, 1, 1, 2])[0]()


def write_log(path: Path, channel: str, start: datetime, messages: int, seed: int) -> None:
    """Write one day of one channel: `messages` chat messages, and the events among them."""
    chat = Chat(channel, random.Random(f"{seed} {path.name}"))
    now, written = start, 0
    with path.open("w", encoding="utf-8", newline="") as log:
        for seconds, user, text in chat.lines():
            now += timedelta(seconds=seconds * chat.rng.uniform(0.2, 1.8))
            stamp = f"[{now.year}-{now.month:02}-{now.day} {now:%H:%M:%S}] #{channel}"  # the day is not padded
            log.write(f"{stamp} {user}\n" if text is None else f"{stamp} {user}: {text}\n")
            written += text is not None
            if written >= messages:
                return


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output-dir", type=Path, default=Path("data/sample_logs"), help="folder to write into")
    parser.add_argument("--messages", type=int, default=48_000, help="chat messages in all")
    parser.add_argument("--seed", type=int, default=42, help="another seed is other chat")
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    days = [(channel, day) for channel in CHANNELS for day in DAYS]
    for channel, day in days:
        path = args.output_dir / f"{channel}-{day:%Y-%m-%d}.txt"
        write_log(path, channel, day, args.messages // len(days), args.seed)


if __name__ == "__main__":
    main()

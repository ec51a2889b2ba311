"""gdn chat in a terminal, driven through tmux: editing and history, Ctrl-C at the prompt and in the
middle of an answer, thoughts, Ctrl-D. terminal.py PROGRAM; ends with 77 when tmux is not there.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

PROGRAM = os.path.abspath(sys.argv[1])
WAIT = 60  # seconds that a screen may take to come: a bound, nothing is measured


class Terminal:
    def __init__(self, folder, command, **env):
        self.tmux = ["tmux", "-S", os.path.join(folder, "socket"), "-f", "/dev/null"]
        settings = dict(HOME=folder, XDG_CONFIG_HOME=folder, XDG_DATA_HOME=folder, **env)
        words = " ".join(f"{key}={value}" for key, value in settings.items())
        self.call("new-session", "-d", "-x", "120", "-y", "50",
                  f"env {words} {command}; echo ended with $?; sleep 600")

    def call(self, *words):
        return subprocess.run(self.tmux + list(words), check=True, capture_output=True,
                              text=True).stdout

    def keys(self, *keys):
        self.call("send-keys", *keys)

    def line(self, text):
        self.call("send-keys", "-l", text)
        self.keys("Enter")

    def screen(self):
        """As it stands, without what is blank at the ends of lines and of all."""
        lines = self.call("capture-pane", "-p", "-S", "-500").splitlines()
        return "\n".join(line.rstrip() for line in lines).rstrip()

    def shows(self, pattern):
        """Waits until the screen matches."""
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            screen = self.screen()
            if re.search(pattern, screen, re.MULTILINE):
                return screen
            time.sleep(0.02)
        sys.exit(f"terminal: no {pattern!r} on the screen:\n{screen.rstrip()}")

    def close(self):
        subprocess.run(self.tmux + ["kill-server"], check=False, capture_output=True)


def times(screen, text):
    return screen.count(text)


def talk(t):
    t.shows(r"^/help lists the commands; Ctrl-D ends\n>\Z")
    # An answer, and the line called back.
    t.line("What is 7 + 5?")
    t.shows(r"^> What is 7 \+ 5\?\n7 \+ 5 = 12\.\n>\Z")
    t.keys("Up")
    t.shows(r"12\.\n> What is 7 \+ 5\?$")
    t.keys("Enter")
    t.shows(r"(?s)(7 \+ 5 = 12\..*){2}\n>\Z")
    # Editing: to the begin of the line, and a letter of two bytes.
    t.call("send-keys", "-l", "hat is 3 + 4? gr\u00fcn")
    t.keys("C-a")
    t.call("send-keys", "-l", "W")
    t.keys("C-e", "BSpace", "BSpace", "BSpace", "BSpace", "BSpace", "Enter")
    t.shows(r"^> What is 3 \+ 4\?\n.*7.*\n>\Z")
    # Ctrl-C at the prompt drops what was typed, however often.
    for i in range(4):
        t.call("send-keys", "-l", "not meant")
        t.shows(r"^> not meant$")
        t.keys("C-c")
        t.shows(r"(?s)(\[Ctrl-D or /quit ends\].*){%d}\n>\Z" % (i + 1))
    # In an answer it stops the answer. Asked again when the answer was over first.
    for _ in range(50):
        before = times(t.screen(), "[stopped")
        t.line("Tell me a long tale about a fox, a cow and a heron who went to the sea.")
        t.keys("C-c")
        screen = t.shows(r">\Z")
        time.sleep(0.05)
        if times(t.screen(), "[stopped") > before:
            break
    else:
        sys.exit(f"terminal: no answer was stopped:\n{screen}")
    t.shows(r"\n>\Z")
    t.line("/stats")
    t.shows(r"\[session \d+ of 2000 tokens; \d+ states kept")
    t.line("/rewind 4000")
    t.line("What is 7 + 5?")
    t.shows(r"turns taken back: .*\n+> What is 7 \+ 5\?\n7 \+ 5 = 12\.\n>\Z")
    t.keys("C-d")
    t.shows(r"^ended with 0$")


def long_prompt(folder):
    """How far reading has come is told while it lasts, and is gone behind it."""
    with open(os.path.join(folder, "ids"), "w", encoding="ascii") as file:
        file.write(" ".join(str(i * 37 % 4000) for i in range(24000)))
    t = Terminal(folder, f"{PROGRAM} run demo --ids {folder}/ids --print-ids -n 1 --temp 0")
    try:
        t.shows(r"\[reading: \d+ of 24000 tokens\]")
        screen = t.shows(r"^ended with 0$")
        if not re.match(r"\A\d+\n\[prompt 24000 tokens, \d+ tok/s; reused 0 tokens; "
                        r"answer 1 tokens, ", screen):
            sys.exit(f"terminal: not a number and the closing line:\n{screen}")
    finally:
        t.close()


def main():
    if not shutil.which("tmux"):
        print("terminal: skipped, there is no tmux (scripts/setup installs it)")
        return 77
    command = f"{PROGRAM} chat demo --temp 0 --ctx 2000 --threads 1"
    for env in ({}, {"LC_ALL": "C.UTF-8", "TERM": "screen"}):
        with tempfile.TemporaryDirectory() as folder:
            terminal = Terminal(folder, command, **env)
            try:
                talk(terminal)
            finally:
                terminal.close()
    with tempfile.TemporaryDirectory() as folder:
        long_prompt(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

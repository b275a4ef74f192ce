"""A real browser without a window, driven through the DevTools protocol, by a pair of pipes."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60  # seconds
FLAGS = """
    --headless=new --no-sandbox --no-first-run --disable-gpu --disable-dev-shm-usage
    --disable-background-timer-throttling --disable-renderer-backgrounding
    --disable-backgrounding-occluded-windows --hide-scrollbars --force-color-profile=srgb
    --remote-debugging-pipe
""".split()
KEYS = {  # name: (code of Windows, text)
    "Enter": (13, "\r"),
    "Tab": (9, ""),
    "End": (35, ""),
    "Home": (36, ""),
    "ArrowLeft": (37, ""),
    "ArrowUp": (38, ""),
    "ArrowRight": (39, ""),
    "ArrowDown": (40, ""),
    "Space": (32, " "),
}


def find_browser():
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class BrowserError(Exception):
    """The browser, or a script in its page, has failed."""


class Browser:
    """with Browser(folder) as browser: page = browser.open(url). The folder is for its profile."""

    def __init__(self, folder):
        to_browser, self.write_end = os.pipe()
        self.read_end, from_browser = os.pipe()
        command = [find_browser(), *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        # The browser reads from its descriptor 3 and writes to 4.
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.last, self.buffer, self.events = 0, b"", []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        os.close(self.write_end)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.read_end)

    def send(self, method, session=None, **parameters):
        """One command of the protocol, and its result."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self.read(deadline)
            if answer.get("id") != message["id"]:
                self.events.append(answer)
            elif "error" in answer:
                raise BrowserError(f"{method}: {answer['error']['message']}")
            else:
                return answer["result"]

    def read(self, deadline):
        while b"\0" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.read_end], [], [], left)[0]:
                raise BrowserError("the browser is silent")
            piece = os.read(self.read_end, 2**16)
            if not piece:
                raise BrowserError("the browser has ended")
            self.buffer += piece
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def open(self, url, width=1280, height=860, dark=False, offline=False):
        """A Page in a tab of its own."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"], target)
        page.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        calm = {"name": "prefers-reduced-motion", "value": "reduce"}
        page.send("Emulation.setEmulatedMedia", features=[scheme, calm])
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.send(f"{domain}.enable")
        if offline:
            page.send(
                "Network.emulateNetworkConditions",
                offline=True,
                latency=0,
                downloadThroughput=-1,
                uploadThroughput=-1,
            )
        page.go(url)
        return page


class Page:
    """A tab."""

    def __init__(self, browser, session, target):
        self.browser, self.session, self.target = browser, session, target

    def close(self):
        self.browser.send("Target.closeTarget", targetId=self.target)

    def send(self, method, **parameters):
        return self.browser.send(method, self.session, **parameters)

    def go(self, url):
        """Load a page; what was complained of before is forgotten."""
        self.send("Page.bringToFront")
        self.browser.events.clear()
        self.send("Page.navigate", url=url)

    def resize(self, width, height):
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def run(self, script):
        """The value of an expression, a promise's when it has come."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def wait(self, script, patience=PATIENCE):
        """Wait until an expression is true; its value."""
        deadline = time.monotonic() + patience
        while not (value := self.run(script)):
            if time.monotonic() > deadline:
                raise BrowserError(f"this did not become true: {script}")
            time.sleep(0.02)
        return value

    def settle(self):
        """Wait until the explorer shows what has been asked for last."""
        self.wait("document.querySelector('main')?.getAttribute('aria-busy') === 'false'")

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)})?.innerText")

    def texts(self, selector):
        find = f"document.querySelectorAll({json.dumps(selector)})"
        return self.run(f"[...{find}].map((one) => one.innerText)")

    def point(self, selector, x=0.5, y=0.5):
        """Move the mouse to an element; x and y are shares of its size. Its place on the page."""
        place = self.wait(f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            if (!element) return null;
            element.scrollIntoView({{ block: "nearest", inline: "nearest" }});
            const box = element.getBoundingClientRect();
            return [box.left + {x} * box.width, box.top + {y} * box.height];
        }})()""")
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
        return place

    def click(self, selector, x=0.5, y=0.5):
        place = self.point(selector, x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                clickCount=1,
            )

    def write(self, text):
        """Type a text into whatever has the focus."""
        self.send("Input.insertText", text=text)

    def press(self, key, shift=False):
        code, text = KEYS[key]
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=" " if key == "Space" else key,
                code=key,
                windowsVirtualKeyCode=code,
                modifiers=8 if shift else 0,
                text=text if kind == "keyDown" else "",
            )

    def take_picture(self, path):
        picture = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(picture))

    def complaints(self):
        """What the page has thrown or the browser has logged as an error so far."""
        self.run("1")
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                details = event["params"]["exceptionDetails"]
                found.append(details.get("exception", {}).get("description", details["text"]))
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(event["params"]["entry"]["text"])
        return found

    def requests(self):
        """The addresses that the page has asked for."""
        self.run("1")
        sent = [e for e in self.browser.events if e.get("sessionId") == self.session]
        sent = [e["params"] for e in sent if e["method"] == "Network.requestWillBeSent"]
        return [event["request"]["url"] for event in sent]

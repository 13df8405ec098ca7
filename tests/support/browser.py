"""A headless Chromium, driven over its DevTools protocol: enough to sign in, look, click and take pictures."""

import asyncio
import base64
import itertools
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-proxy-server",
    "--remote-debugging-port=0",
)
START_S, ANSWER_S = 30.0, 30.0


class Page:
    """One tab. Keeps what the page complained of (script errors, refused resources) in `complaints`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._session = ""
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()

    async def open(self) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command's result. Raises RuntimeError where the browser refuses it."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": number, "method": method, "params": params, **session})
        async with asyncio.timeout(ANSWER_S):
            return await answer

    async def listen(self) -> None:
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                self._answer(said)
            else:
                self._event(said["method"], said["params"])

    def _answer(self, said: dict[str, Any]) -> None:
        answer = self._answers.pop(said["id"])
        if "error" in said:
            answer.set_exception(RuntimeError(said["error"]["message"]))
        else:
            answer.set_result(said["result"])

    def _event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"]["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}".strip())

    async def size(self, width: int, height: int = 900, *, scale: float = 1, dark: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def goto(self, url: str) -> None:
        """Loads an address and waits until it is shown."""
        async with self.loading():
            await self.call("Page.navigate", url=url)

    @asynccontextmanager
    async def loading(self) -> AsyncIterator[None]:
        """Waits at its end for the page that the block leads to."""
        self._loaded.clear()
        yield
        async with asyncio.timeout(ANSWER_S):
            await self._loaded.wait()

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise. Raises RuntimeError where it throws."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", "the script failed"))
        return found["result"].get("value")

    async def text(self) -> str:
        return str(await self.run("document.body.innerText"))

    async def wait_for(self, script: str) -> None:
        """Returns when the expression is true."""
        async with asyncio.timeout(ANSWER_S):
            while not await self.run(script):
                await asyncio.sleep(0.1)

    async def picture(self, path: Path, *, whole: bool = True, height: int | None = None) -> None:
        """A PNG of the whole page, or of its top."""
        box = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": box["width"], "height": height or box["height"], "scale": 1}
        extra = {"clip": clip, "captureBeyondViewport": True} if whole or height else {}
        shot = await self.call("Page.captureScreenshot", format="png", **extra)
        path.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def browse(program: Path) -> AsyncIterator[Page]:
    """A page of a browser with a profile of its own; both are gone at the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = (str(program), *FLAGS, f"--user-data-dir={profile}", "about:blank")
        silent = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, stdout=silent, stderr=silent)
        try:
            address = await _address(Path(profile) / "DevToolsActivePort", process)
            async with aiohttp.ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
                page = Page(socket)
                listener = asyncio.create_task(page.listen())
                await page.open()
                yield page
                listener.cancel()
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _address(file: Path, process: asyncio.subprocess.Process) -> str:
    """Where the browser listens, as it says once it does."""
    async with asyncio.timeout(START_S):
        while not (file.exists() and file.read_text().count("\n") >= 1):
            if process.returncode is not None:
                raise RuntimeError(f"the browser ended at once with code {process.returncode}")
            await asyncio.sleep(0.05)
    port, path = file.read_text().split("\n")[:2]
    return f"ws://127.0.0.1:{port}{path}"

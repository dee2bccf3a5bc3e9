"""A real JupyterLab, and a browser that drives it. Nothing of the user's own Jupyter set-up is read or written."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil
from playwright.sync_api import BrowserContext, Locator, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "artifacts"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
SETTINGS: dict[str, dict[str, object]] = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # cells out of sight would not be in the page
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},
}
STARTED = """async () => {
  const app = window.jupyterapp;
  await app.started; await app.restored; await app.serviceManager.ready;
  const panel = app.shell.currentWidget;
  await panel.context.ready; await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
}"""
RUN_ALL = "async () => { await window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
CELLS = "() => window.jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model.toJSON())"
COMMAND = "([id, args]) => window.jupyterapp.commands.execute(id, args)"
HEIGHT = """() => {
  const outer = document.querySelector('.jp-NotebookPanel .jp-WindowedPanel-outer');
  outer.scrollTop = 0;
  return outer.scrollHeight + window.innerHeight - outer.clientHeight;
}"""


@dataclass
class Lab:
    """A running server. ``requests`` are all addresses that the browser asked for."""

    url: str
    token: str
    folder: Path
    context: BrowserContext
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.context.on("page", lambda page: page.on("websocket", lambda socket: self.requests.append(socket.url)))

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        """A page, closed afterwards with its notebook's kernel, so that at most one kernel runs at a time."""
        page = self.context.new_page()
        try:
            yield page
            page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        finally:
            page.close()

    def strangers(self) -> list[str]:
        """Requests that left this machine."""
        return [url for url in self.requests if not _is_local(url)]

    def open(self, page: Page, notebook: str) -> None:
        """Open a notebook (a path below the folder) in a workspace of its own and wait for its kernel."""
        path = f"/lab/workspaces/{secrets.token_hex(4)}/tree/{quote(notebook)}"
        page.goto(f"{self.url}{path}?token={self.token}")
        page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context")
        page.evaluate(STARTED)
        page.evaluate(COMMAND, ["application:set-mode", {"mode": "single-document"}])
        if page.locator("#jp-left-stack").is_visible():
            page.evaluate(COMMAND, ["application:toggle-left-area", {}])


@contextlib.contextmanager
def lab_page(lab: Lab, notebook: str) -> Iterator[Page]:
    """A page with that notebook open."""
    with lab.page() as page:
        lab.open(page, notebook)
        yield page


def _is_local(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "about") or parts.hostname in ("127.0.0.1", "localhost")


def run_all(page: Page) -> list[dict[str, Any]]:
    """Run every cell; the cells as they are then, outputs included."""
    page.evaluate(RUN_ALL)
    cells: list[dict[str, Any]] = page.evaluate(CELLS)
    return cells


def theme(page: Page, name: str) -> None:
    """Change to ``JupyterLab Dark`` or ``JupyterLab Light`` and wait until it is there."""
    page.evaluate(COMMAND, ["apputils:change-theme", {"theme": name}])
    page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)


def shoot(page: Page, name: str, width: int = 1100) -> Path:
    """A picture of the whole notebook, saved among the artifacts."""
    before = page.viewport_size
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(150)  # the layout follows the width
    page.set_viewport_size({"width": width, "height": min(16_000, max(400, int(page.evaluate(HEIGHT)) + 20))})
    page.wait_for_timeout(150)
    ARTIFACTS.mkdir(exist_ok=True)
    path = ARTIFACTS / f"{name}.png"
    page.screenshot(path=path)
    if before:
        page.set_viewport_size(before)
    return path


def output_of(control: Locator) -> Locator:
    """The output area in which a control stands."""
    return control.locator("xpath=ancestor::*[contains(concat(' ', @class, ' '), ' jp-OutputArea-output ')][1]")


@contextlib.contextmanager
def serving(folder: Path, state: Path, chromium: str) -> Iterator[Lab]:
    """JupyterLab over ``folder`` on a free port, and a headless browser. Both are gone afterwards, kernels included."""
    environment = _environment(state)
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.port=0", "--ServerApp.ip=127.0.0.1"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
    command += ["--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    log = state / "lab.log"
    with log.open("wb") as out:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    try:
        url = _address(server, state / "runtime", log)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
            try:
                # one context for all pages: the second notebook finds JupyterLab's code in the cache
                context = browser.new_context(viewport={"width": 1100, "height": 900}, reduced_motion="reduce")
                context.set_default_timeout(60_000)
                yield Lab(url, token, folder, context)
            finally:
                browser.close()
    finally:
        _stop(server)


def _environment(state: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "K8SNET_"))}
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    folders |= {
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    for name, folder in folders.items():
        (state / folder).mkdir(parents=True, exist_ok=True)
        environment[name] = str(state / folder)
    for plugin, settings in SETTINGS.items():
        file = state / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings), encoding="utf-8")
    environment["PYTHONPATH"] = str(ROOT)
    return environment


def _address(server: subprocess.Popen[bytes], runtime: Path, log: Path, seconds: float = 90) -> str:
    """Where the server listens; it writes that down itself."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(ValueError):  # half written
                return f"http://127.0.0.1:{json.loads(file.read_text(encoding='utf-8'))['port']}"
        time.sleep(0.05)
    raise RuntimeError(f"jupyter lab did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-4000:]}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server, which ends its kernels; then whatever is still there of what it started."""
    try:
        started = psutil.Process(server.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    _, alive = psutil.wait_procs(started, timeout=3)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()

"""The pages of the web console: files of this package, as they are, under a strict Content-Security-Policy.

One document, whose scripts ask /api/ for all that they show. Nothing is loaded from another host.
"""

from __future__ import annotations

from importlib import resources

from aiohttp import web

# No script but the own files, no markup made of strings (require-trusted-types-for), in nobody's frame.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A node that was updated must not be shown by the scripts of the version before.
    "Cache-Control": "no-cache",
    "Vary": "Accept",
}
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class ConsolePages:
    """Read once: they are small, and what is not in the list cannot be asked for."""

    def __init__(self) -> None:
        files = resources.files("raftlog.http").joinpath("pages").iterdir()
        self._files = {file.name: file.read_bytes() for file in files if _content_type(file.name)}

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/console/{name}", self._file)]

    def document(self) -> web.Response:
        return self._answer("index.html")

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._files:
            raise web.HTTPNotFound
        return self._answer(name)

    def _answer(self, name: str) -> web.Response:
        return web.Response(body=self._files[name], content_type=_content_type(name), charset="utf-8", headers=_HEADERS)


def _content_type(name: str) -> str:
    """ "": no file of a page."""
    return _TYPES.get(name[name.rfind(".") :], "")

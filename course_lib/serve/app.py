"""The chat server: its addresses, what each answers, and how errors are told. `create_app` makes it.

The way of a request: `transport` (HTTP), `gate` (who may ask), `api` (what is asked), an endpoint here, `replies`.

Written by hand; chapter 17 uses it.
"""

from collections.abc import Mapping

from fastapi import APIRouter, FastAPI
from fastapi import Request as HTTPRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.paths import data_dir
from course_lib.model.gpt import GPT
from course_lib.serve.api import ChatSettings, CompletionRequest, OpenAIRequest, Refused, TextRequest, refusal_of
from course_lib.serve.gate import Gate
from course_lib.serve.models import Loader, Models
from course_lib.serve.replies import Chat, ChatCompletion, Completion, Reply, ReplyStream, nanochat_events, unless_gone

PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/chat.css": ("chat.css", "text/css; charset=utf-8"),
    "/chat.js": ("chat.js", "text/javascript; charset=utf-8"),
    "/markdown.js": ("markdown.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

SENTENCES = {
    404: "there is nothing at this address; the page is at /, and OpenAI's API is below /v1",
    405: "this address does not know that method",
}
ERROR = {"description": "What is wrong, in one sentence, in the form of OpenAI's errors"}
router = APIRouter(responses={"4XX": ERROR, "5XX": ERROR})


def create_app(
    model: GPT, tokenizer: Tokenizer, settings: ChatSettings | None = None, others: Mapping[str, Loader] | None = None
) -> FastAPI:
    """The chat server's app. Call it in the thread that has made or loaded the model.

    others: models that are loaded when a request names them. From now on the model belongs to a thread of its own.
    `app.state.models.close()` ends that; `serve` and `run_forever` do it when they end.
    """
    settings = settings or ChatSettings()
    app = FastAPI(
        title="chat",
        docs_url=None,
        redoc_url=None,
        exception_handlers=dict.fromkeys((Refused, RequestValidationError, HTTPException), answer_error),
    )
    app.state.chat = Chat(model, tokenizer, settings)
    app.state.models = Models(app.state.chat, others or {})
    app.state.reading = set()
    app.add_middleware(Gate, settings=settings, public=frozenset({*PAGES, "/health"}), reading=app.state.reading)
    if settings.allow_origin:  # outermost: a browser asks first, and sends no key with that
        origins = [origin.rstrip("/") for origin in settings.allow_origin]
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
    app.include_router(router)
    for path in PAGES:
        app.add_route(path, page)
    return app


@router.post("/chat/completions", response_model=None)
async def chat_completions(body: CompletionRequest, request: HTTPRequest) -> Response:
    """nanochat's form: always a stream. Who names a model speaks OpenAI's, and has left /v1 out of the address."""
    if body.model is not None:
        return await v1_chat_completions(body, request)
    body.n = 1  # its events have no numbers
    chat, reply = await begin(request, body)
    return ReplyStream(chat, reply, nanochat_events(reply))


@router.post("/v1/chat/completions", response_model=None)
async def v1_chat_completions(body: CompletionRequest, request: HTTPRequest) -> Response:
    """OpenAI's form, as a stream or whole."""
    chat, reply = await begin(request, body)
    return await answer(request, body, chat, reply, ChatCompletion(chat.settings.name, reply))


@router.post("/v1/completions", response_model=None)
async def v1_completions(body: TextRequest, request: HTTPRequest) -> Response:
    """OpenAI's older form: a text is gone on with. As a stream or whole."""
    chat, reply = await begin(request, body)
    return await answer(request, body, chat, reply, Completion(chat.settings.name, reply))


async def begin(request: HTTPRequest, body: CompletionRequest | TextRequest) -> tuple[Chat, Reply]:
    """The model that is asked, and its reply, queued. The body is checked before a model is loaded for it."""
    models: Models = request.app.state.models
    settings = models.settings(body.model)
    question = body.question(settings)
    chat = await models.chat(settings.name)
    return chat, await chat.reply(question)


async def answer(
    request: HTTPRequest, body: OpenAIRequest, chat: Chat, reply: Reply, completion: Completion
) -> Response:
    """A reply as a stream or whole. The header x-ignored-fields names what was asked for and is not done."""
    headers = {"x-ignored-fields": ", ".join(ignored)} if (ignored := body.ignored()) else {}
    if body.stream:
        usage = body.stream_options and body.stream_options.include_usage
        return ReplyStream(chat, reply, completion.events(bool(usage)), headers)
    try:
        return JSONResponse(await unless_gone(request, completion.whole()), headers=headers)
    finally:
        chat.ended(reply)


@router.get("/v1/models")
def models(request: HTTPRequest) -> dict:
    """The models, in OpenAI's form, and the settings of requests that do not set their own."""
    return {"object": "list", "data": [model(name, request) for name in request.app.state.models.names]}


@router.get("/v1/models/{name:path}")
def model(name: str, request: HTTPRequest) -> dict:
    """One model of the list."""
    settings = request.app.state.models.settings(name)
    defaults = {name: getattr(settings, name) for name in ("temperature", "top_k", "max_tokens")}
    started = int(request.app.state.chat.started)
    return {"id": settings.name, "object": "model", "created": started, "owned_by": "you", "defaults": defaults}


@router.get("/health")
def health() -> dict:
    """Liveness probe."""
    return {"status": "ok"}


@router.get("/stats")
def stats(request: HTTPRequest) -> dict:
    """Counters: running, waiting, served, refused, tokens, uptime."""
    return request.app.state.models.counters()


def page(request: HTTPRequest) -> Response:
    """A file of data/web."""
    name, media_type = PAGES[request.scope["path"]]
    content = (data_dir() / "web" / name).read_bytes()
    return Response(content, media_type=media_type, headers={"cache-control": "no-cache"})


async def answer_error(request: HTTPRequest, error: Exception) -> Response:
    """The answer to what was refused, to a body of another form, and to an unknown address or method."""
    if isinstance(error, RequestValidationError):
        error = refusal_of(error, request.headers.get("content-type", ""))
    elif isinstance(error, HTTPException):
        sentence = SENTENCES.get(error.status_code, "the request cannot be read; send a JSON object")
        error = Refused(error.status_code, sentence, headers=dict(error.headers or {}))
    assert isinstance(error, Refused)  # nothing else is sent here
    return error.response()

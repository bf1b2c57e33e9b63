"""The work of all peers, as WSGI applications."""


def _function(work):
    def application(environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        answer = work(environ["wsgi.input"].read(length))
        start_response("200 OK", [
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", str(len(answer))),
        ])
        return [answer]
    return application


upper = _function(bytes.upper)
reverse = _function(lambda body: body[::-1])

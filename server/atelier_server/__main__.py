"""`python -m atelier_server` is `atelier serve`."""

from atelier_server.commands.serve import serve

if __name__ == "__main__":
    serve(prog_name="python -m atelier_server")

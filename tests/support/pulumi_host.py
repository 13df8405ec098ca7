"""The process of a Pulumi program, as the engine's host starts it. It knows Pulumi's library and nothing of ours."""

import argparse
import asyncio
import os
import runpy
import sys

import pulumi


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("monitor", "engine", "project", "stack", "pwd", "parallel", "dry_run"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("program")
    given = parser.parse_args()
    runtime = pulumi.runtime
    runtime.set_all_config(runtime.get_config_env(), runtime.get_config_secret_keys_env())
    settings = runtime.Settings(
        given.project, given.stack, given.monitor, given.engine, int(given.parallel), organization="organization"
    )
    runtime.configure(settings)
    os.chdir(given.pwd)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(runtime.run_in_stack(lambda: _run(given.program)))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return 1
    return 0


def _run(program: str) -> None:
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    sys.exit(main())

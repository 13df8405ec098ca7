"""A switch thrown in one process stops another one, and stays thrown there while the database is away."""

import asyncio

import pytest
from sqlalchemy.engine import make_url

from app.clock import system_clock
from app.governance.flags import Flags, kill_switch
from app.settings import load_settings
from tests.support.flags_child import PACK, TENANT
from tests.support.servers import Backends, Servers, serving
from tests.support.switching import throw, watched
from tests.support.wire import Wire

SEEN_S = 60


async def test_a_switch_is_seen_by_another_process_on_the_servers_whatever_a_replica_knows(
    server_settings: Backends, servers: Servers
) -> None:
    async with serving(load_settings({}, **server_settings)) as db, watched(db, server_settings) as thrown:
        servers.standby.pause_replay()
        try:
            for on in (True, False, True):
                await asyncio.wait_for(thrown(on), SEEN_S)
        finally:
            servers.standby.resume_replay()


async def test_while_the_database_is_away_the_last_known_switches_stand(server_settings: Backends) -> None:
    address = make_url(server_settings["database_url"])
    assert address.port is not None
    with Wire(address.port) as wire:
        through = address.set(port=wire.port).render_as_string(hide_password=False)
        behind = load_settings({}, database_url=through, database_pooled=True)
        async with serving(load_settings({}, **server_settings)) as db, serving(behind) as cut_off:
            await throw(db, True)
            flags = Flags(cut_off, system_clock)
            flags.declare(kill_switch(PACK))
            await flags.refresh()
            assert flags.killed(PACK, TENANT)
            await asyncio.to_thread(wire.cut)
            await throw(db, False)
            with pytest.raises(Exception, match=r"Connect call failed|closed"):
                await flags.refresh()
            assert flags.killed(PACK, TENANT), "an unreachable database flips no switch"
            wire.heal()
            await flags.refresh()
            assert not flags.killed(PACK, TENANT)

"""Fixtures of the component tests: one PostgreSQL and one Redis a session, a migrated database of its own a test. Needs their binaries."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime.settings import Settings
from tests.component.servers import APP, OWNER, Database, Postgres, Redis, clean_env

JWT_SECRET = "0f3b7a6cd2e94815b7f0aa12c4e6d8905b1c"
ADMIN_PASSWORD = "correct-horse-7-battery"
APP_SECRET = "7d9f0e2b4c6a8135f9b7d5e3c1a20468"
VERIFY_TOKEN = "verify-3f9a7c21"
ACCESS_TOKEN = "EAAGtoken-5b2e8d0c9f"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server. A test that stops it must start it again (fixture `outage`)."""
    server = Postgres.create()
    yield server
    server.destroy()


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """The Redis server. A test that stops it must start it again (fixture `redis_outage`)."""
    server = Redis.create()
    yield server
    server.destroy()


@pytest.fixture(scope="session")
def template(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database migrated by the real command; each test works on a copy."""
    database = postgres.create_database()
    migrate(database, tmp_path_factory.mktemp("migrate") / "termination-log")
    return database.name


def migrate(database: Database, result: Path) -> None:
    """Run `chatbot migrate` as the contract says; fails with its output."""
    env = clean_env({**database.env(OWNER), "DATABASE_APP_ROLE": APP, "TERMINATION_LOG": str(result)})
    done = subprocess.run(
        [sys.executable, "-m", "chatbot_runtime", "migrate"], env=env, check=False, capture_output=True, text=True, timeout=120
    )
    if done.returncode != 0:
        pytest.fail(f"migrate exited with {done.returncode}\n{done.stdout}\n{done.stderr}")


@pytest.fixture
def empty_database(postgres: Postgres) -> Iterator[Database]:
    """A database without any schema, for tests of migrations."""
    database = postgres.create_database()
    yield database
    postgres.drop_database(database.name)


@pytest.fixture
def database(postgres: Postgres, template: str) -> Iterator[Database]:
    """A migrated database of its own."""
    made = postgres.create_database(template)
    yield made
    postgres.drop_database(made.name)


@pytest.fixture
def outage(postgres: Postgres) -> Iterator[Postgres]:
    """The server, for a test that stops it; it runs again afterwards whatever happened."""
    yield postgres
    if postgres.process is None:
        postgres.start()


@pytest.fixture
def redis_outage(redis: Redis) -> Iterator[Redis]:
    """The Redis server, for a test that stops it; it runs again afterwards whatever happened."""
    yield redis
    if redis.process is None:
        redis.start()


@pytest.fixture
def runtime_env(database: Database, redis: Redis) -> dict[str, str]:
    """The contract's environment for any role on the test's database, with a cloud channel."""
    return {
        **database.env(),
        **redis.env(),
        "JWT_SECRET": JWT_SECRET,
        "ADMIN_PASSWORD": ADMIN_PASSWORD,
        "WA_PHONE_NUMBER_ID": "106540352242922",
        "WA_APP_SECRET": APP_SECRET,
        "WA_VERIFY_TOKEN": VERIFY_TOKEN,
        "WA_ACCESS_TOKEN": ACCESS_TOKEN,
        "BIND_HOST": "127.0.0.1",
    }


@pytest.fixture
def settings(runtime_env: dict[str, str]) -> Settings:
    """Settings on the test's database, independent of this process's environment."""
    return Settings(**{name.lower(): value for name, value in runtime_env.items()})


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """A connection pool as the application role."""
    from chatbot_runtime.db.engine import create_engine

    made = create_engine(settings)
    yield made
    await made.dispose()


@pytest.fixture
async def owner_engine(database: Database, settings: Settings) -> AsyncIterator[AsyncEngine]:
    """A connection pool as the owner of the schema."""
    from chatbot_runtime.db.engine import create_engine

    made = create_engine(settings.model_copy(update={"database_url": Settings(database_url=database.url(OWNER)).database_url}))
    yield made
    await made.dispose()

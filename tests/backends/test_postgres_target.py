import pytest

from soniqd.backends.postgres.target import parse_target
from soniqd.errors import ConfigurationError


def target(url):
    return parse_target(url, connect_timeout_s=5.0)


def test_half_open_connections_are_looked_for_unless_the_url_says_otherwise():
    parameters = target("postgresql://host/db?keepalives_idle=99").parameters
    assert parameters["keepalives"] == 1
    assert parameters["tcp_user_timeout"] > 0
    assert parameters["keepalives_idle"] == "99"


def test_the_location_has_no_password():
    location = target("postgresql://user:s3cret@host:5433/db").location
    assert location == "postgresql://user@host:5433/db"


def test_several_hosts_keep_their_ports():
    location = target("postgresql://user@a:1,b:2/db?target_session_attrs=read-write").location
    assert location == "postgresql://user@a:1,b:2/db"


@pytest.mark.parametrize(("value", "threshold"), [("none", None), ("off", None), ("0", None), ("5", 5)])
def test_prepared_statements_are_chosen_in_the_url(value, threshold):
    found = target(f"postgresql://host/db?prepare_threshold={value}&sslmode=disable")
    assert found.prepare_threshold == threshold
    assert "prepare_threshold" not in found.parameters
    assert found.parameters["sslmode"] == "disable"


def test_statements_are_prepared_by_default():
    assert target("postgresql://host/db").prepare_threshold is not None


def test_a_strange_threshold_is_refused():
    with pytest.raises(ConfigurationError, match="prepare_threshold is 'sometimes'"):
        target("postgresql://host/db?prepare_threshold=sometimes")


def test_an_escaped_password_survives_the_removal_of_an_option():
    found = target("postgresql://u:p%40%2Fss@host/db?prepare_threshold=none")
    assert found.parameters["password"] == "p@/ss"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cret@host/db?no_such=1",
        "postgresql://u:s3%zz@h/d",
        "postgresql://u:a@s3cret@h/d",
        "postgresql://u:a@b/s3cret@h/d",
        "postgresql://u:a/s3cret@h/d",
    ],
)
def test_an_unusable_url_is_refused_without_its_password(url):
    with pytest.raises(ConfigurationError) as caught:
        target(url)
    text = f"{caught.value}{caught.value.__cause__}"
    assert "s3" not in text


def test_the_parameters_are_not_in_the_repr():
    assert "s3cret" not in repr(target("postgresql://u:s3cret@host/db"))


def test_a_missing_name_is_the_users(monkeypatch):
    monkeypatch.delenv("PGDATABASE", raising=False)
    assert target("postgresql://ada@host").database == "ada"

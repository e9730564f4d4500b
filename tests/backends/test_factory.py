import pytest

from soniqd.backends.factory import create_backend
from soniqd.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgresql://host/db", "postgres"),
        ("postgres://host/db", "postgres"),
        ("sqlite:///jobs.db", "sqlite"),
        ("sqlite:////var/lib/jobs.db", "sqlite"),
        ("jobs.sqlite3", "sqlite"),
        ("/var/lib/jobs.db", "sqlite"),
        ("memory://", "memory"),
    ],
)
def test_the_url_names_the_backend(url, kind):
    assert create_backend(url).capabilities.name == kind


@pytest.mark.parametrize(
    ("url", "tail"), [("sqlite:////var/lib/jobs.db", "/var/lib/jobs.db"), ("sqlite:///a%20b.db", "/a b.db")]
)
def test_the_path_of_an_sqlite_url_is_taken_apart(url, tail):
    assert tail in create_backend(url).location.replace("%20", " ")


@pytest.mark.parametrize("url", ["mysql://u:s3cret@host/db", "sqlite://jobs.db", "sqlite:///", "", "jobs"])
def test_an_unknown_url_is_refused_without_its_password(url):
    with pytest.raises(ConfigurationError, match="cannot use the database url") as caught:
        create_backend(url)
    assert "s3cret" not in str(caught.value)

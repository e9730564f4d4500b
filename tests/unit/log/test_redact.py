from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniqd.log.redact import redact


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("postgresql://u:secret@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://:secret@h/d", "postgresql://:***@h/d"),
        ("to postgresql://u:s@cr/et@h/d failed", "to postgresql://u:***@h/d failed"),
        ("postgresql://u:a@h,postgresql://u:b@h", "postgresql://u:***@h,postgresql://u:***@h"),
        ("postgresql://h/d?user=u&password=secret&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("postgresql://h/d?sslpassword=secret", "postgresql://h/d?sslpassword=***"),
        ("host=h password=secret user=u", "host=h password=*** user=u"),
        ("host=h password = 'se cr\\'et' user=u", "host=h password = *** user=u"),
        ("PASSWORD='unfinished", "PASSWORD=***"),
        ("{'user': 'u', 'password': 'se cret'}", "{'user': 'u', 'password': ***}"),
        ('{"password": "se\\"cret"}', '{"password": ***}'),
    ],
)
def test_passwords_are_masked(text, redacted):
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://localhost:5432/d",
        "postgresql://u@h/d",
        'password authentication failed for user "u"',
        "sqlite:////var/lib/jobs.db",
        "",
    ],
)
def test_everything_else_stays(text):
    assert redact(text) == text


@given(st.text(st.characters(codec="ascii", exclude_characters=" \t\r\n\x0b\x0c\x1c\x1d\x1e\x1f:", min_codepoint=33)))
def test_no_password_without_spaces_survives_in_a_url(password):
    marked = f"<{password}>"
    assert marked not in redact(f"cannot connect to postgresql://user:{marked}@host/db: refused")

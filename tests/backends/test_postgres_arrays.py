from hypothesis import given
from hypothesis import strategies as st

from soniqd.backends.postgres import arrays


async def read(backend, text, kind):
    async with backend.acquire() as connection:
        cursor = await connection.execute(f"SELECT %s::{kind}[]", [text])
        return (await cursor.fetchone())[0]


async def test_numbers_arrive_as_they_were(postgres):
    values = [1, -1, None, 0.1, 1e300, 2**62, 1e-7]
    assert await read(postgres, arrays.numbers(values), "float8") == [None if v is None else float(v) for v in values]
    assert await read(postgres, arrays.numbers([]), "int") == []


async def test_words_arrive_as_they_were(postgres):
    values = ["done", None, "01a2047c-bb81-7c48-86ef-491fd950ad51"]
    assert await read(postgres, arrays.words(values), "text") == values


ODD = ["", "NULL", "null", '"', "\\", '\\"', "a,b", "{}", " x ", "\n", "ü€", "'", "{a,{b}}", None, '{"a": "b\\n\\\\"}']


async def test_texts_arrive_as_they_were(postgres):
    assert await read(postgres, arrays.texts(ODD), "text") == ODD
    assert await read(postgres, arrays.texts([]), "text") == []
    without_null = [text for text in ODD if text is not None]
    assert await read(postgres, arrays.texts(without_null), "text") == without_null


def test_a_text_that_cannot_be_stored_is_not_taken_for_two():
    assert arrays.texts(["a\0b", "c"]) == '{"a\0b","c"}'


async def test_a_number_arrives_as_often_as_it_was(postgres):
    assert await read(postgres, arrays.repeated(0.1, 3), "float8") == [0.1, 0.1, 0.1]


@given(st.lists(st.none() | st.text(alphabet='a"\\{},NULL \n')))
def test_texts_are_quoted_so_that_each_can_be_told(values):
    """Read by the rule of the manual: a backslash takes what follows it as it is."""
    found: list[str | None] = []
    text = arrays.texts(values)[1:-1]
    while text:
        if text.startswith("NULL"):
            found.append(None)
            text = text[4:]
        else:
            end, plain = 1, ""
            while text[end] != '"':
                end += text[end] == "\\"
                plain += text[end]
                end += 1
            found.append(plain)
            text = text[end + 1 :]
        text = text.removeprefix(",")
    assert found == values

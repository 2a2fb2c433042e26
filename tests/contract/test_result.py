"""`GET /jobs/{id}/result`: a file with its type and name, or the JSON that the job returned."""

import re
from urllib.parse import unquote

import pytest

from tests.support.server import Site


@pytest.mark.contract("GET /jobs/{id}/result")
def test_the_file_comes_byte_for_byte_with_its_media_type_and_name(site: Site) -> None:
    """As a download, whatever it is."""
    content = "name;gruß\r\n".encode("cp1252") * 50_000
    job = site.job()
    job.start()
    job.succeed({"rows": 1}, file=job.save("out.csv", "text/csv; charset=windows-1252", content))

    with site.client() as client:
        answer = client.get("/jobs/job-1/result")

    assert (200, content) == (answer.status_code, answer.content)
    assert "text/csv; charset=windows-1252" == answer.headers["Content-Type"]
    assert str(len(content)) == answer.headers["Content-Length"]
    assert 'attachment; filename="out.csv"' == answer.headers["Content-Disposition"]


def test_a_text_file_gets_no_charset_that_nobody_gave_it(site: Site) -> None:
    """A guess would break every umlaut of a file that was exported in another one."""
    job = site.job()
    job.start()
    job.succeed(file=job.save("out.csv", "text/csv", b"x"))

    with site.client() as client:
        assert "text/csv" == client.get("/jobs/job-1/result").headers["Content-Type"]


def test_a_file_runs_nothing_on_this_origin(site: Site) -> None:
    """A job may make a page: it is saved, not shown, and has no origin."""
    job = site.job()
    job.start()
    job.succeed(file=job.save("page.html", "text/html", b"<script>alert(1)</script>"))

    with site.client() as client:
        headers = client.get("/jobs/job-1/result").headers

    assert headers["Content-Disposition"].startswith("attachment")
    assert "nosniff" == headers["X-Content-Type-Options"]
    assert "sandbox" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("name", "saved_as"),
    [
        ("plain.csv", "plain.csv"),
        ("März.csv", "März.csv"),
        ("名前 😀.csv", "名前 😀.csv"),
        ('a"b.csv', 'a"b.csv'),
        ("100%41.csv", "100%41.csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\x.csv", "x.csv"),
        ("a;b='c'.csv", "a;b='c'.csv"),
    ],
)
def test_any_name_survives_and_none_is_a_path(site: Site, name: str, saved_as: str) -> None:
    """The extended form of RFC 8187 wins where there is one, as RFC 6266 §4.3 has it."""
    job = site.job()
    job.start()
    job.succeed(file=job.save(name, "text/csv", b"x"))

    with site.client() as client:
        header = client.get("/jobs/job-1/result").headers["Content-Disposition"]

    extended = re.search(r"filename\*=UTF-8''([\w!#$&+.^`|~%-]+)$", header, re.ASCII)
    plain = re.search(r'filename="([^"]*)"', header)
    assert header.isascii() and plain
    assert saved_as == (unquote(extended[1]) if extended else plain[1])


@pytest.mark.contract("GET /jobs/{id}/result")
def test_without_a_file_it_is_the_json_that_the_job_returned(site: Site) -> None:
    """Null included: a job may return nothing."""
    for id, result in (("a", {"rows": 3}), ("b", None), ("c", "text")):
        job = site.job(id)
        job.start()
        job.succeed(result)
        with site.client() as client:
            answer = client.get(f"/jobs/{id}/result")

        assert (200, "application/json", result) == (
            answer.status_code,
            answer.headers["Content-Type"],
            answer.json(),
        )


@pytest.mark.contract("GET /jobs/{id}/result")
def test_there_is_none_before_the_end_and_none_of_a_failed_job(site: Site) -> None:
    """404, and for all that a problem that says which it is."""
    job = site.job()
    with site.client() as client:
        queued = client.get("/jobs/job-1/result")
        job.start()
        running = client.get("/jobs/job-1/result")
        job.fail()
        failed = client.get("/jobs/job-1/result")

    assert [404, 404, 404] == [answer.status_code for answer in (queued, running, failed)]
    assert "yet" in running.json()["detail"]
    assert "without a result" in failed.json()["detail"]


def test_a_file_that_is_gone_is_404(site: Site) -> None:
    """It was removed with its time; the state may live a little longer."""
    job = site.job()
    job.start()
    job.succeed(file=job.save("out.csv", "text/csv", b"x"))
    site.files.delete_job("job-1")

    with site.client() as client:
        assert 404 == client.get("/jobs/job-1/result").status_code


def test_head_tells_the_size_and_sends_nothing(site: Site) -> None:
    """So that a page can show what a download will cost."""
    job = site.job()
    job.start()
    job.succeed(file=job.save("out.csv", "text/csv", b"x" * 5_000))

    with site.client() as client:
        answer = client.head("/jobs/job-1/result")

    assert (200, "5000", b"") == (answer.status_code, answer.headers["Content-Length"], answer.content)


def test_a_ticket_in_the_url_opens_it(site: Site) -> None:
    """A link for a browser's download, which can carry no header."""
    job = site.job()
    job.start()
    job.succeed(file=job.save("out.csv", "text/csv", b"x"))
    with site.client() as client:
        ticket = client.post("/tickets", json={"jobs": ["job-1"]}).json()["token"]

    with site.client(None) as nobody:
        assert b"x" == nobody.get(f"/jobs/job-1/result?token={ticket}").content

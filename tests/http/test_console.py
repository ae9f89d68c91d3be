"""The web console in a real Chromium, of real nodes: each page with data, without, and with a dead node."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from raftlog import Admin, Consumer, NewTopic, Producer, TopicPartition
from raftlog.node.local import LocalCluster
from raftlog.security.acls import Acl, AclFilter, Operation, ResourceType
from raftlog.security.quotas import PRODUCER_BYTE_RATE, entity_of
from tests.http.browser import PHONE, Tab, chromium, screen, without_authorization
from tests.patience import WAIT_S

pytestmark = pytest.mark.cluster
expect.set_options(timeout=WAIT_S * 1000)  # of this process: pages are asked for what they will show
PAGES = ("", "topics", "topics/orders", "topics/orders/records", "groups", "groups/billing", "access")
SCRIPT = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
HUGE = ("0123456789abcdef" * 312_500).encode()  # 5 MB


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes with topics, a group that is behind, and records that no page should believe."""
    directory = tmp_path_factory.mktemp("busy")
    with LocalCluster(nodes=3, directory=directory, http=True, prefix=without_authorization) as cluster:
        with Admin(cluster.bootstrap) as admin:
            admin.create_topics(
                [
                    NewTopic(name="orders", partitions=3),
                    NewTopic(name="hostile", config={"max_record_bytes": "8MiB"}),
                ]
            )
            with Producer(cluster.bootstrap) as producer:
                for number in range(60):
                    order = {"order": number, "customer": f"customer-{number % 7}", "amount": 12.5 * number}
                    producer.send("orders", json.dumps(order).encode(), key=b"customer-%d" % (number % 7))
                producer.send("hostile", SCRIPT.encode(), key=SCRIPT.encode(), headers=[(SCRIPT, SCRIPT.encode())])
                producer.send("hostile", "gnp.\u202etxt\x00\x1b[31m\u200b".encode())
                producer.send("hostile", bytes(range(256)))
                producer.send("hostile", None, key=b"")
                producer.send("hostile", b'{"large": 12345678901234567890, "list": [1, {}]}')
                producer.flush()
                producer.send("hostile", HUGE).result(WAIT_S)
            admin.set_group_offsets("billing", {TopicPartition("orders", number): 2 for number in range(3)})
            admin.set_group_offsets(SCRIPT, {TopicPartition("hostile", 0): 0})
            admin.create_user("alice", "something long", iterations=4096)
            admin.create_acls([_rule("User:alice", "orders"), _rule(f"User:{SCRIPT}", SCRIPT)])
        yield cluster


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One node without data. Who makes something there takes it away again."""
    directory = tmp_path_factory.mktemp("small")
    with LocalCluster(nodes=1, directory=directory, http=True, prefix=without_authorization) as cluster:
        yield cluster


def _rule(principal: str, name: str) -> Acl:
    return Acl(resource_type=ResourceType.TOPIC, name=name, principal=principal, operation=Operation.READ)


@pytest.fixture
def tab(browser: Browser) -> Iterator[Callable[..., Tab]]:
    opened: list[Tab] = []

    def make(cluster: LocalCluster, node_id: int = 1, **options: Any) -> Tab:
        opened.append(Tab(browser, f"http://{cluster.http_endpoints[node_id]}", **options))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_the_overview_says_how_the_cluster_is(busy: LocalCluster, tab: Callable[..., Tab], tmp_path: Path) -> None:
    shown = tab(busy)
    page = shown.open("")
    expect(page.locator("#health")).to_have_text(
        "All is well: 3 nodes answer, and each partition has a leader and its replicas."
    )
    assert page.locator("tbody tr").count() == 3
    assert page.get_by_role("table", name="Clients that quotas hold back").count() == 0
    assert shown.text("footer").startswith("Shown by node 1, raftlog ")
    with Producer(busy.bootstrap) as producer:
        producer.send("orders", b"one more").result(WAIT_S)
        # What was written shows without a reload, and as a line.
        expect(page.locator(".plot[aria-label^='Records written per second, from']")).to_be_visible()
    screen(page, "console-overview", tmp_path)
    assert page.title() == "Overview – raftlog"


def test_the_overview_names_who_is_held_back(browser: Browser, tmp_path: Path, tab: Callable[..., Tab]) -> None:
    with LocalCluster(nodes=1, directory=tmp_path / "held", http=True) as cluster:
        with Admin(cluster.bootstrap) as admin:
            admin.create_topics([NewTopic(name="orders")])
            admin.alter_quotas([(entity_of(client_id=SCRIPT), {PRODUCER_BYTE_RATE: 1000})])
        page = tab(cluster).open("")
        table = page.get_by_role("table", name="Clients that quotas hold back at node 1")
        with Producer(cluster.bootstrap, client_id=SCRIPT) as producer:
            while not table.count():
                producer.send("orders", bytes(range(256)) * 8).result(WAIT_S)
        expect(table.locator("tbody tr")).to_contain_text([SCRIPT[:60]])  # of a name 64 characters are told
        assert page.title() == "Overview – raftlog"


def test_a_topic_shows_its_partitions_and_settings(busy: LocalCluster, tab: Callable[..., Tab]) -> None:
    shown = tab(busy)
    page = shown.open("topics")
    page.get_by_label("Topics with this in their name").fill("ord")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="orders").click()
    partitions = page.get_by_role("table", name="Partitions of orders").locator("tbody tr")
    expect(partitions).to_have_count(3)
    assert "1, 2, 3" in partitions.first.inner_text()
    assert "min_insync_replicas" in shown.text()
    page.get_by_label("Only those with problems").check()
    expect(partitions).to_have_count(0)
    assert page.title() == "Topic orders – raftlog"


def test_groups_show_owners_and_lag_and_draw_it(busy: LocalCluster, tab: Callable[..., Tab]) -> None:
    shown = tab(busy)
    page = shown.open("groups")
    rows = page.locator("tbody tr")
    expect(rows.first).to_contain_text("billing")
    with Consumer(
        "orders", bootstrap_servers=busy.bootstrap, group_id="owners", auto_offset_reset="earliest", client_id="till-3"
    ) as consumer:
        consumer.poll(WAIT_S * 1000)
        page = shown.open("groups/owners")
        expect(page.get_by_role("table", name="Members of owners")).to_contain_text("till-3")
        expect(page.get_by_role("table", name="Partitions that owners reads")).to_contain_text("till-3")
    page = shown.open("groups/billing")
    assert "Nobody is in it now." in shown.text()
    lag = page.locator(".plot")
    expect(lag).to_be_visible()
    assert "Lag of billing" in (lag.get_attribute("aria-label") or "")


def test_records_are_found_by_offset_time_key_and_text(
    busy: LocalCluster, tab: Callable[..., Tab], tmp_path: Path
) -> None:
    shown = tab(busy)
    page = shown.open("topics/orders/records")
    rows = page.locator("#records tbody tr")
    assert rows.count() > 40
    page.get_by_label("Only with this key").fill("customer-3")
    page.get_by_role("button", name="Read", exact=True).click()
    expect(rows).to_have_count(9)
    expect(page.locator("#found")).to_contain_text("9 records found among 6")
    page.get_by_label("Only with this key").fill("")
    page.get_by_label("Only with this text in key, value or header").fill('"order": 42')
    page.get_by_role("button", name="Read", exact=True).click()
    expect(rows).to_have_count(1)
    rows.first.get_by_role("button").click()
    value = page.get_by_role("dialog").locator("pre[aria-label=Value]")
    expect(value).to_have_text('{\n  "order": 42,\n  "customer": "customer-0",\n  "amount": 525.0\n}')
    screen(page, "console-record", tmp_path)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page = shown.open("topics/orders/records?partition=0&from=offset&offset=3&limit=2")
    page.reload()
    expect(page.locator("#records tbody th")).to_have_text(["3", "4"])
    page.get_by_role("button", name="Read on").click()
    expect(page.locator("#records tbody th")).to_have_text(["3", "4", "5", "6"])
    page.get_by_label("Begin with").select_option("time")
    page.get_by_label("At or after").fill("2020-01-01T00:00:00")
    page.get_by_role("button", name="Read", exact=True).click()
    expect(page.locator("#records tbody th")).to_have_text(["0", "1"])


def test_the_tail_shows_records_as_they_come(busy: LocalCluster, tab: Callable[..., Tab]) -> None:
    shown = tab(busy)
    page = shown.open("topics/orders/records")
    page.get_by_role("button", name="Tail").click()
    expect(page.locator("#found")).to_contain_text("Waiting for records")
    expect(page.locator("#records tbody tr")).to_have_count(0)
    with Producer(busy.bootstrap) as producer:
        for number in range(3):
            producer.send("orders", b"tailed %d" % number, partition=number).result(WAIT_S)
            # The newest stands first.
            expect(page.locator("#records tbody tr").first).to_contain_text(f"tailed {number}")
    expect(page.locator("#records tbody tr")).to_have_count(3)


def test_hostile_bytes_are_text(busy: LocalCluster, tab: Callable[..., Tab]) -> None:
    shown = tab(busy)
    page = shown.open("topics/hostile/records?from=beginning")
    rows = page.locator("#records tbody tr")
    expect(rows).to_have_count(6)
    assert rows.nth(0).inner_text().count(SCRIPT) == 2
    assert "gnp.\\u{202e}txt\\u{0}\\u{1b}[31m\\u{200b}" in rows.nth(1).inner_text()
    assert "00 01 02 03" in rows.nth(2).inner_text()
    assert "empty" in rows.nth(3).inner_text() and "null" in rows.nth(3).inner_text()
    dialog = page.get_by_role("dialog")
    value = dialog.locator("pre[aria-label=Value]")

    rows.nth(0).get_by_role("button").click()
    assert dialog.locator("pre").all_inner_texts() == [SCRIPT] * 3
    page.keyboard.press("Escape")

    rows.nth(2).get_by_role("button").click()
    assert value.inner_text().splitlines()[1].startswith("00000010  10 11 12")
    page.keyboard.press("Escape")

    rows.nth(4).get_by_role("button").click()
    assert "12345678901234567890" in value.inner_text()  # as it is written, not as a float
    page.keyboard.press("Escape")

    shown.open("groups")
    page.get_by_role("link", name=SCRIPT).click()
    expect(page.locator("h1")).to_have_text(f"Group {SCRIPT}")
    expect(page.locator("main")).to_contain_text("hostile-0")
    assert page.locator("script:not([src]), img").count() == 0
    assert "owned" not in page.evaluate("document.title").replace(SCRIPT, "")

    shown.open("access")
    expect(page.get_by_role("row", name=f"User:{SCRIPT}")).to_contain_text(SCRIPT)
    assert page.locator("script:not([src]), img").count() == 0


def test_a_value_of_5_mb_is_shown_in_part_and_whole(busy: LocalCluster, tab: Callable[..., Tab]) -> None:
    shown = tab(busy)
    page = shown.open("topics/hostile/records?from=offset&offset=5")
    page.locator("#records tbody button").click()
    value = page.locator("dialog pre[aria-label=Value]")
    assert page.evaluate("document.querySelector('dialog pre[aria-label=Value]').textContent.length") == 2048
    page.get_by_role("button", name="Show all").last.click()
    page.wait_for_function(
        "size => document.querySelector('dialog pre[aria-label=Value]').textContent.length === size", arg=len(HUGE)
    )
    assert value.evaluate("element => element.textContent.endsWith('0123456789abcdef')")
    with page.expect_download() as saving:
        page.get_by_role("link", name="Save").last.click()
    assert Path(saving.value.path()).read_bytes() == HUGE
    assert saving.value.suggested_filename == "hostile-0-5.value"


def test_every_page_is_accessible_light_and_dark_and_fits_a_phone(busy: LocalCluster, tab: Callable[..., Tab]) -> None:
    shown = tab(busy, viewport=PHONE, is_mobile=True)

    def check(what: str) -> None:
        assert shown.findings() == [], what
        shown.page.emulate_media(color_scheme="dark")
        assert shown.findings("color-contrast") == [], f"{what}, dark"
        shown.page.emulate_media(color_scheme="light")
        assert not shown.is_too_wide(), what

    for path in PAGES:
        shown.open(path)
        check(path)
    page = shown.open("topics/hostile/records?from=beginning")
    page.locator("#records tbody button").first.click()
    check("a record")


def test_a_keyboard_is_enough(busy: LocalCluster, tab: Callable[..., Tab]) -> None:
    page = tab(busy).open("")

    def focused() -> str:
        return str(page.evaluate("document.activeElement.textContent.trim()"))

    page.keyboard.press("Tab")
    assert focused() == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_role("link", name="Topics").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Topics")
    expect(page.get_by_role("link", name="Topics")).to_have_attribute("aria-current", "page")
    link = page.get_by_role("link", name="orders")
    link.focus()
    updated = page.inner_text("#updated")
    # What is refreshed keeps the focus.
    page.wait_for_function("text => document.getElementById('updated').textContent !== text", arg=updated)
    assert focused() == "orders"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Topic orders")


def test_refreshing_can_be_stopped(busy: LocalCluster, tab: Callable[..., Tab]) -> None:
    page = tab(busy).open("")
    asked: list[str] = []
    updated = page.inner_text("#updated")
    page.get_by_role("button", name="Live").click()
    expect(page.get_by_role("button", name="Paused")).to_have_attribute("aria-pressed", "false")
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(5_000)
    assert asked == []
    page.get_by_role("button", name="Paused").click()
    page.wait_for_function("text => document.getElementById('updated').textContent !== text", arg=updated)
    assert asked


def test_pages_without_data_say_so(small: LocalCluster, tab: Callable[..., Tab]) -> None:
    shown = tab(small)
    shown.open("")
    assert "All is well: 1 node answers" in shown.text()
    shown.open("topics")
    assert "There is no topic yet." in shown.text()
    shown.open("groups")
    assert "There is no consumer group yet." in shown.text()
    shown.open("access")
    assert "There are no users and no rules: everybody may do everything." in shown.text()
    for path, text in (("topics/nope", "there is no topic nope"), ("groups/nope", "there is no group nope")):
        page = shown.open(path)
        expect(page.get_by_role("alert")).to_have_text(text)
        assert shown.findings() == []
    with Admin(small.bootstrap) as admin:
        admin.create_topics([NewTopic(name="new")])
        page = shown.open("topics/new/records")
        assert "No records to show." in shown.text()
        admin.delete_topics(["new"])
    page = shown.open("topics/nope/records")
    expect(page.get_by_role("alert")).to_have_text("there is no topic nope")


def test_2000_partitions_are_shown_in_parts(busy: LocalCluster, tab: Callable[..., Tab]) -> None:
    """The answer is generated: no machine of a test runs 6,000 workers."""
    partition = {
        "leader": 1,
        "leader_epoch": 1,
        "replicas": [1, 2, 3],
        "witnesses": [],
        "isr": [1, 2, 3],
        "log_start_offset": 0,
        "high_watermark": 5,
        "size_bytes": 1000,
        "survives_failures": 1,
        "cuts": 0,
        "corruptions": 0,
        "problems": [],
    }
    partitions = [{**partition, "partition": number} for number in range(2_000)]
    partitions[1234] |= {"leader": None, "isr": [], "survives_failures": None, "problems": ["no leader"]}
    topic = {
        "topic": "wide",
        "topic_id": "00" * 16,
        "replication_factor": 3,
        "witnesses": 0,
        "config": {},
        "partitions": partitions,
    }
    shown = tab(busy)
    answer = json.dumps({"confirmed": True, "topics": [topic]})
    shown.page.route("**/api/topics/wide", lambda route: route.fulfill(body=answer, content_type="application/json"))
    page = shown.open("topics/wide")
    assert "1 partition of 2000 with problems." in shown.text()
    rows = page.get_by_role("table", name="Partitions of wide").locator("tbody tr")
    expect(rows).to_have_count(250)
    for _ in range(4):
        page.get_by_role("button", name="Next").click()
    expect(rows.first).to_contain_text("1000")
    page.get_by_label("Only those with problems").check()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("no leader")
    page.get_by_label("Only those with problems").uncheck()
    took_ms = page.evaluate(
        """async () => {
            const begin = performance.now();
            document.getElementById("troubled").onchange({ target: { checked: false } });
            await new Promise(requestAnimationFrame);
            return performance.now() - begin;
        }"""
    )
    assert took_ms < 3_000  # 0.2 s where nothing else runs


def test_acts_are_looked_at_first_and_what_destroys_is_typed(
    small: LocalCluster, tab: Callable[..., Tab], tmp_path: Path
) -> None:
    shown = tab(small)
    page = shown.open("topics")
    dialog = page.get_by_role("dialog")
    with Admin(small.bootstrap) as admin:
        page.get_by_role("button", name="Create a topic").click()
        dialog.get_by_label("Name").fill("orders")
        dialog.get_by_label("Partitions").fill("2")
        page.get_by_role("button", name="Preview").click()
        expect(dialog).to_contain_text("Topic orders with 2 partitions, replication factor 1.")
        expect(dialog).to_contain_text("Nothing is changed yet.")
        assert shown.findings() == []
        assert admin.list_topics() == []
        # What is typed after the preview has not been looked at.
        dialog.get_by_label("Partitions").fill("3")
        expect(dialog.get_by_role("button", name="Create", exact=True)).to_have_count(0)
        page.get_by_role("button", name="Preview").click()
        dialog.get_by_role("button", name="Create", exact=True).click()
        expect(dialog).to_contain_text("Done.")
        page.get_by_role("button", name="Close").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Topic orders")
        expect(page.get_by_role("table", name="Partitions of orders").locator("tbody tr")).to_have_count(3)

        page.get_by_role("button", name="Change a setting").click()
        page.get_by_label("Setting", exact=True).select_option("retention_ms")
        page.get_by_label("Value, such as").fill("two days")
        page.get_by_role("button", name="Preview").click()
        expect(dialog.get_by_role("status")).to_contain_text("takes a whole number")
        page.get_by_label("Value, such as").fill("2d")
        page.get_by_role("button", name="Preview").click()
        expect(dialog.get_by_role("table")).to_contain_text("172,800,000")
        dialog.get_by_role("button", name="Change", exact=True).click()
        expect(dialog).to_contain_text("Done.")
        page.get_by_role("button", name="Close").click()
        expect(page.get_by_role("table", name="Settings of orders")).to_contain_text("172800000")

        admin.set_group_offsets("billing", {TopicPartition("orders", 0): 0})
        page = shown.open("groups/billing")
        page.get_by_role("button", name="Reset offsets").click()
        page.get_by_label("To", exact=True).select_option("end")
        page.get_by_role("button", name="Preview").click()
        expect(dialog.get_by_role("table")).to_contain_text("orders-0")
        expect(dialog.get_by_role("button", name="Reset the offsets")).to_be_disabled()
        page.keyboard.press("Escape")

        page = shown.open("topics/orders")
        page.get_by_role("button", name="Delete the topic").click()
        page.get_by_role("button", name="Preview").click()
        delete = dialog.get_by_role("button", name="Delete the topic")
        expect(delete).to_be_disabled()
        page.get_by_label("Type orders to confirm").fill("order")
        expect(delete).to_be_disabled()
        page.get_by_label("Type orders to confirm").fill("orders")
        screen(page, "console-delete", tmp_path)
        delete.click()
        expect(dialog).to_contain_text("Done.")
        page.get_by_role("button", name="Close").click()
        expect(page.locator("main")).to_contain_text("There is no topic yet.")
        assert admin.list_topics() == []
        admin.delete_group("billing")


def test_users_and_rules_are_made_and_taken_away(small: LocalCluster, tab: Callable[..., Tab]) -> None:
    shown = tab(small)
    page = shown.open("access")
    dialog = page.get_by_role("dialog")
    with Admin(small.bootstrap) as admin:
        page.get_by_role("button", name="Create a user, or set a password").click()
        dialog.get_by_label("User").fill("alice")
        dialog.get_by_label("Password").fill("something long")
        page.get_by_role("button", name="Preview").click()
        expect(dialog).to_contain_text("It is the first user")
        assert shown.findings() == []
        assert admin.list_users() == []
        dialog.get_by_role("button", name="Set the password").click()
        page.get_by_role("button", name="Close").click()
        expect(page.get_by_role("table", name="1 user")).to_contain_text("alice")

        page.get_by_role("button", name="Add a rule").click()
        dialog.get_by_label("Principal").fill("User:alice")
        dialog.get_by_label("Resource").select_option("Group")
        dialog.get_by_label("Name").fill("billing")
        page.get_by_role("button", name="Preview").click()
        expect(dialog).to_contain_text("User:alice may do Read with each Group billing.")
        assert shown.findings() == []
        dialog.get_by_role("button", name="Add the rule").click()
        page.get_by_role("button", name="Close").click()
        rules = page.get_by_role("table", name="1 rule")
        expect(rules).to_contain_text("billing")
        rules.get_by_role("button", name="Remove the rule of User:alice").click()
        page.get_by_role("button", name="Preview").click()
        page.get_by_label("Type User:alice to confirm").fill("User:alice")
        dialog.get_by_role("button", name="Remove the rule").click()
        page.get_by_role("button", name="Close").click()
        expect(page.locator("main")).to_contain_text("There is no rule.")
        assert admin.list_acls() == []
        page.get_by_role("button", name="Delete user alice").click()
        page.get_by_role("button", name="Preview").click()
        page.get_by_label("Type alice to confirm").fill("alice")
        dialog.get_by_role("button", name="Delete the user").click()
        page.get_by_role("button", name="Close").click()
        expect(page.locator("main")).to_contain_text("There is no user.")


def test_hundreds_of_rules_are_shown_in_parts_and_found_by_name(small: LocalCluster, tab: Callable[..., Tab]) -> None:
    rules = [_rule("User:alice", f"topic-{number:03}") for number in range(300)]
    with Admin(small.bootstrap) as admin:
        admin.create_user("bob", "something long", iterations=4096)
        for begin in range(0, len(rules), 100):
            admin.create_acls(rules[begin : begin + 100])
        try:
            shown = tab(small)
            page = shown.open("access")
            table = page.get_by_role("table", name="300 rules: 1 to 250 of 300")
            expect(table.locator("tbody tr")).to_have_count(250)
            page.get_by_role("button", name="Next").click()
            expect(page.get_by_role("table", name="300 rules: 251 to 300 of 300")).to_contain_text("topic-299")
            named = page.get_by_label("Users and rules with this in their name")
            named.fill("topic-29")
            expect(page.get_by_role("table", name="10 rules")).to_be_visible()
            expect(page.locator("main")).to_contain_text("No user has this in the name.")
            named.fill("bob")
            expect(page.get_by_role("table", name="1 user")).to_be_visible()
            expect(page.locator("main")).to_contain_text("No rule has this in principal or name.")
            assert shown.findings() == []
        finally:
            admin.delete_acls([AclFilter()])
            admin.delete_user("bob")


def test_a_read_only_node_offers_no_acts(busy: LocalCluster, tab: Callable[..., Tab]) -> None:
    """Of the node it is asked only whether; what it then refuses is tested in test_acts.py."""
    shown = tab(busy)
    about = json.dumps({"node": 1, "version": "0", "read_only": True, "principal": ""})
    shown.page.route("**/api/console", lambda route: route.fulfill(body=about, content_type="application/json"))
    page = shown.open("topics/orders")
    expect(page.get_by_role("table", name="Partitions of orders")).to_be_visible()
    expect(page.locator("main button")).to_have_count(0)
    assert "It shows, and changes nothing." in shown.text("footer")


def test_a_dead_node_is_named_with_what_to_do(busy: LocalCluster, tab: Callable[..., Tab]) -> None:
    shown, of_the_dead = tab(busy), tab(busy, node_id=3)
    dead_page = of_the_dead.open("")
    page = shown.open("")
    busy.kill(3)
    expect(page.locator("#health")).to_contain_text("2 of 3 nodes answer")
    expect(page.get_by_role("table").locator("tr", has_text="does not answer")).to_have_count(1)
    assert "node 3: it does not answer" in shown.text()
    assert "To do: start it" in shown.text()
    assert shown.findings() == []
    page = shown.open("topics/orders")
    expect(page.get_by_role("status")).to_contain_text("with problems")
    assert len(shown.open("topics/orders/records").locator("#records tbody tr").all()) > 40
    page = shown.open("access")
    expect(page.get_by_role("table", name="1 user")).to_contain_text("alice")
    expect(page.get_by_role("table", name="2 rules")).to_contain_text("User:alice")
    # Its own page keeps what it knew, and says that it may be old.
    expect(dead_page.get_by_role("alert")).to_have_text("This node does not answer. What is shown may be old.")
    assert "All is well" in of_the_dead.text() or "problem" in of_the_dead.text()
    busy.start(3)
    shown.open("")
    expect(page.locator("#health")).to_contain_text("All is well")

// Consumer groups: who is in them, what they own, and how far behind they are.

import { actBar, deleteGroup, resetOffsets } from "./acts.js";
import { get, name } from "./api.js";
import { empty, facts, h, link, pagedTable, table } from "./elements.js";
import { count, ids, plural } from "./format.js";
import { plot, remember } from "./plot.js";

const LAGS_MAX = 50; // asked for one by one

export const groups = {
  title: () => "Consumer groups",

  async load(_, signal) {
    const found = (await get("/api/groups", signal)).groups;
    for (const group of found.slice(0, LAGS_MAX)) {
      // One that is gone since, or whose coordinator is, has no lag to show.
      group.lag = await described(group.group, signal).then(({ lag }) => lag, () => null);
    }
    return found;
  },

  render(found, view, again) {
    if (!found.length) return [empty("There is no consumer group yet. A consumer with a group id makes one.")];
    const sorted = [...found].sort((a, b) => (b.lag ?? -1) - (a.lag ?? -1));
    return [
      pagedTable(
        `${plural(found.length, "group")}, those furthest behind first`,
        [
          ["Group", (group) => link(`groups/${name(group.group)}`, group.group)],
          ["State", (group) => group.state],
          ["Members", (group) => count(group.members), "num"],
          ["Lag in records", (group) => count(group.lag), "num"],
        ],
        sorted,
        view,
        again,
      ),
    ];
  },
};

async function described(group, signal) {
  const [found] = (await get(`/api/groups/${name(group)}`, signal)).groups;
  remember(`lag ${group}`, found.lag);
  return found;
}

export const group = {
  title: ([groupName]) => `Group ${groupName}`,

  load: ([groupName], signal) => described(groupName, signal),

  render(found, view, again) {
    return [
      actBar(
        ["Reset offsets", () => resetOffsets(found, view.reload)],
        ["Delete the group", () => deleteGroup(found, () => { location.hash = "#/groups"; })],
      ),
      facts(
        ["State", found.state],
        ["Members", count(found.members.length)],
        ["Lag in records", count(found.lag)],
        ["Assignment", found.protocol || "–"],
        ["Generation", found.generation < 0 ? "–" : count(found.generation)],
        ["Coordinator", found.coordinator === null ? "none" : `node ${found.coordinator}`],
      ),
      h("h2", null, "Lag over time"),
      plot(`Lag of ${found.group}`, `lag ${found.group}`),
      h("h2", null, "Partitions"),
      found.partitions.length
        ? pagedTable(`Partitions that ${found.group} reads`, PARTITION_COLUMNS, found.partitions, view, again)
        : empty("It has committed nothing and owns nothing."),
      h("h2", null, "Members"),
      found.members.length ? table(`Members of ${found.group}`, MEMBER_COLUMNS, found.members) : empty("Nobody is in it now."),
    ];
  },
};

const PARTITION_COLUMNS = [
  ["Partition", (each) => link(`topics/${name(each.topic)}`, `${each.topic}-${each.partition}`)],
  ["Committed", (each) => count(each.committed_offset), "num"],
  ["Log start", (each) => count(each.log_start_offset), "num"],
  ["End", (each) => count(each.log_end_offset), "num"],
  ["Lag", (each) => h("span", { class: each.lag ? "bad" : null }, count(each.lag)), "num"],
  ["Client", (each) => each.client ?? "–"],
  ["Member", (each) => each.member ?? "nobody"],
];

const MEMBER_COLUMNS = [
  ["Member", (each) => each.member],
  ["Client", (each) => each.client],
  ["Static name", (each) => each.instance ?? "–"],
  ["Owns", (each) => ids(each.partitions)],
];

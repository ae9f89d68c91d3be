// All topics, and one topic with its partitions and settings.

import { actBar, addPartitions, changeSetting, createTopic, deleteRecords, deleteTopic } from "./acts.js";
import { get, name } from "./api.js";
import { empty, facts, field, h, link, pagedTable, table } from "./elements.js";
import { count, ids, perSecond, plural, size } from "./format.js";
import { growth, plot, remember } from "./plot.js";

export const topics = {
  title: () => "Topics",

  async load(_, signal) {
    const found = await get("/api/summaries", signal);
    for (const topic of found.topics) topic.rate = growth(`end ${topic.topic}`, topic.end_offsets);
    return found;
  },

  render(found, view, again) {
    const filter = h("input", { type: "search", autocomplete: "off", oninput: (event) => { view.filter = event.target.value; view.page = 0; again(); } });
    const shown = found.topics.filter((topic) => topic.topic.includes(view.filter ?? ""));
    return [
      actBar(["Create a topic", () => createTopic((made) => { location.hash = `#/topics/${name(made)}`; })]),
      h("div", { class: "bar" }, field("filter", "Topics with this in their name", filter)),
      found.topics.length === 0
        ? empty("There is no topic yet. ", h("code", null, "raftlog topic create NAME"), " makes one.")
        : pagedTable(`${plural(shown.length, "topic")}`, COLUMNS, shown, view, again),
    ];
  },
};

const COLUMNS = [
  ["Topic", (topic) => link(`topics/${name(topic.topic)}`, topic.topic)],
  ["Partitions", (topic) => count(topic.partitions), "num"],
  ["Replicas", (topic) => count(topic.replication_factor), "num"],
  ["Records", (topic) => count(topic.records), "num"],
  ["Written", (topic) => perSecond(topic.rate), "num"],
  ["Size", (topic) => size(topic.size_bytes), "num"],
  ["Leaders", (topic) => Object.entries(topic.leads).map(([node, leads]) => `node ${node}: ${leads}`).join(", ") || "none"],
  ["Survives", (topic) => survives(topic.survives_failures), "num"],
  ["Problems", (topic) => h("span", { class: topic.problems.length ? "bad" : "good-text" }, topic.problems.join("; ") || "none"), "problem-text"],
];

const survives = (failures) => (failures === null ? h("span", { class: "bad" }, "does not work") : plural(failures, "failure"));

export const topic = {
  title: ([topicName]) => `Topic ${topicName}`,

  async load([topicName], signal) {
    const [found] = (await get(`/api/topics/${name(topicName)}`, signal)).topics;
    for (const partition of found.partitions) {
      partition.rate = growth(`end ${topicName} ${partition.partition}`, partition.high_watermark);
    }
    const rates = found.partitions.map((partition) => partition.rate);
    found.rate = rates.includes(null) ? null : rates.reduce((sum, each) => sum + each, 0);
    if (found.rate !== null) remember(`rate ${topicName}`, found.rate);
    return found;
  },

  render(found, view, again) {
    const sum = (make) => found.partitions.reduce((total, partition) => total + make(partition), 0);
    const troubled = found.partitions.filter((partition) => partition.problems.length);
    const only = h("input", { type: "checkbox", id: "troubled", onchange: (event) => { view.troubled = event.target.checked; view.page = 0; again(); } });
    return [
      h(
        "p",
        { class: `health ${troubled.length ? "bad" : "good"}`, role: "status" },
        troubled.length ? `${plural(troubled.length, "partition")} of ${found.partitions.length} with problems.` : "Each partition has its leader and its replicas.",
      ),
      h("p", null, link(`topics/${name(found.topic)}/records`, "Look at its records")),
      actBar(
        ["Change a setting", () => changeSetting(found, view.reload)],
        ["Add partitions", () => addPartitions(found, view.reload)],
        ["Delete records", () => deleteRecords(found, view.reload)],
        ["Delete the topic", () => deleteTopic(found, () => { location.hash = "#/topics"; })],
      ),
      facts(
        ["Partitions", count(found.partitions.length)],
        ["Replicas of each", `${found.replication_factor}${found.witnesses ? ` and ${plural(found.witnesses, "witness")}` : ""}`],
        ["Records", count(sum((each) => Math.max(0, each.high_watermark - each.log_start_offset)))],
        ["Written", perSecond(found.rate)],
        ["Size", size(sum((each) => each.size_bytes))],
      ),
      h("h2", null, "Partitions"),
      h("div", { class: "bar" }, h("label", { for: "troubled" }, only, " Only those with problems")),
      pagedTable(`Partitions of ${found.topic}`, PARTITION_COLUMNS, view.troubled ? troubled : found.partitions, view, again),
      h("h2", null, "Records written"),
      plot("Records written per second", `rate ${found.topic}`, perSecond),
      h("h2", null, "Settings"),
      table(
        `Settings of ${found.topic}`,
        [
          ["Setting", ([setting]) => setting],
          ["Value", ([, value]) => String(value)],
        ],
        Object.entries(found.config).sort(([a], [b]) => (a < b ? -1 : 1)),
      ),
      h("p", { class: "faint" }, `Topic id ${found.topic_id}.`),
    ];
  },
};

const PARTITION_COLUMNS = [
  ["Partition", (each) => String(each.partition)],
  ["Leader", (each) => (each.leader === null ? h("span", { class: "bad" }, "none") : `node ${each.leader}`)],
  ["Epoch", (each) => count(each.leader_epoch), "num"],
  ["Replicas", (each) => ids(each.replicas)],
  ["Witnesses", (each) => ids(each.witnesses)],
  ["In sync", (each) => h("span", { class: each.isr.length < each.replicas.length ? "bad" : null }, ids(each.isr))],
  ["Log start", (each) => count(each.log_start_offset), "num"],
  ["End", (each) => count(each.high_watermark), "num"],
  ["Written", (each) => perSecond(each.rate), "num"],
  ["Size", (each) => size(each.size_bytes), "num"],
  ["Survives", (each) => survives(each.survives_failures), "num"],
  ["Problems", (each) => each.problems.join("; ") || "none", "problem-text"],
];

// How the cluster is: in a sentence, what doctor says, nodes and what they lead.

import { get } from "./api.js";
import { empty, facts, h, table } from "./elements.js";
import { count, perSecond, plural, size } from "./format.js";
import { growth, meter, plot, remember } from "./plot.js";

export const overview = {
  title: () => "Overview",

  async load(_, signal) {
    const [cluster, doctor, summaries, held] = await Promise.all(
      ["cluster", "doctor", "summaries", "throttled"].map((what) => get(`/api/${what}`, signal)),
    );
    const written = growth("cluster end", summaries.topics.reduce((sum, topic) => sum + topic.end_offsets, 0));
    if (written !== null) remember("cluster rate", written);
    for (const client of held.throttled) {
      const grown = growth(`held ${client.door} ${client.user} ${client.client}`, client.seconds);
      client.now = grown !== null && grown > 0;
    }
    return { cluster, doctor, topics: summaries.topics, written, held };
  },

  render({ cluster, doctor, topics, written, held }) {
    const records = topics.reduce((sum, topic) => sum + topic.records, 0);
    return [
      health(cluster, doctor),
      facts(
        ["Topics", count(cluster.topics)],
        ["Partitions", count(cluster.partitions)],
        ["Records", count(records)],
        ["Written", perSecond(written)],
        ["Controller", cluster.controller === null ? "none" : `node ${cluster.controller}`],
        ["Flush", cluster.flush],
      ),
      doctor.problems.length ? problems(doctor.problems) : null,
      h("h2", null, "Nodes"),
      nodes(cluster.nodes),
      held.throttled.length ? throttled(held) : null,
      h("h2", null, "Records written"),
      plot("Records written per second", "cluster rate", perSecond),
      h("p", { class: "faint" }, `Cluster ${cluster.cluster_id}.`),
    ];
  },
};

function health(cluster, doctor) {
  const alive = cluster.nodes.filter((node) => node.alive).length;
  const good = cluster.healthy && doctor.healthy;
  const nodesText = alive === cluster.nodes.length ? `${plural(alive, "node")} answer${alive === 1 ? "s" : ""}` : `${alive} of ${plural(cluster.nodes.length, "node")} answer`;
  const text = good
    ? `All is well: ${nodesText}, and each partition has a leader and its replicas.`
    : `${plural(Math.max(doctor.problems.length, 1), "problem")}: ${nodesText}.`;
  const old = cluster.confirmed ? null : " The node that answers hears no majority of the voters: what it says may be old.";
  return h("p", { class: `health ${good ? "good" : "bad"}`, role: "status", id: "health" }, text, old);
}

const SHOWN_MAX = 50;

function problems(found) {
  return [
    h("h2", null, "What is wrong, and what to do"),
    h(
      "ul",
      { class: "problems" },
      found.slice(0, SHOWN_MAX).map((problem) =>
        h(
          "li",
          null,
          h("p", null, h("strong", null, problem.place), `: ${problem.what}`),
          h("p", null, `That means: ${problem.meaning}.`),
          h("p", null, `To do: ${problem.advice}.`),
        ),
      ),
    ),
    found.length > SHOWN_MAX ? h("p", null, `And ${found.length - SHOWN_MAX} more: raftlog doctor shows all.`) : null,
  ];
}

function nodes(found) {
  if (!found.length) return empty("No node is known yet.");
  const most = Math.max(...found.map((node) => node.size_bytes));
  const leads = found.reduce((sum, node) => sum + node.leads, 0);
  return table(
    "Nodes, what they lead and what they hold",
    [
      ["Node", (node) => String(node.node)],
      ["State", (node) => (node.alive ? h("span", { class: "good-text" }, "answers") : h("span", { class: "bad" }, "does not answer"))],
      ["Address", (node) => node.address],
      ["Voter", (node) => (node.voter ? "yes" : "no")],
      ["Leads", (node) => [count(node.leads), meter(node.leads, leads)], "num"],
      ["Replicas", (node) => count(node.replicas), "num"],
      ["Witnesses", (node) => count(node.witnesses), "num"],
      ["Size", (node) => [size(node.size_bytes), meter(node.size_bytes, most)], "num"],
      ["Doubtful", (node) => warned(node.doubtful), "num"],
      ["Cuts", (node) => count(node.cuts), "num"],
      ["Corruptions", (node) => count(node.corruptions), "num"],
    ],
    found,
  );
}

function throttled(held) {
  return [
    h("h2", null, `Clients that quotas hold back at node ${held.node}`),
    table(
      `Clients that quotas hold back at node ${held.node}`,
      [
        ["User", (client) => client.user],
        ["Client id", (client) => client.client],
        ["Door", (client) => client.door],
        ["Now", (client) => (client.now ? h("span", { class: "bad" }, "held back") : "no")],
        ["Times", (client) => count(client.times), "num"],
        ["Seconds in all", (client) => count(Math.round(client.seconds)), "num"],
      ],
      held.throttled.slice(0, SHOWN_MAX),
    ),
  ];
}

const warned = (value) => (value ? h("span", { class: "bad" }, count(value)) : "0");

// Acts: a form, then a preview of what would become of it, then the act itself, after its name was typed where it destroys.

import { node, post } from "./api.js";
import { field, h, table } from "./elements.js";
import { count } from "./format.js";

/** The buttons of a page's acts; none where the node is for looking only. */
export function actBar(...acts) {
  if (node.read_only) return null;
  return h("div", { class: "bar" }, acts.map(([text, open]) => h("button", { type: "button", onclick: open }, text)));
}

/** `fields`: elements; `body`: what they say; `confirm`: what has to be typed, where the act destroys; `done`: runs after. */
function openAct({ title, name, verb, confirm, fields, body, done }) {
  const status = h("p", { role: "status" });
  const preview = h("div");
  const close = h("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const form = h(
    "form",
    { onsubmit: look, oninput: forget },
    fields.length ? h("div", { class: "bar" }, fields) : null,
    h("button", { class: "main" }, "Preview"),
  );
  const dialog = h("dialog", { "aria-labelledby": "act-title" }, h("h2", { id: "act-title" }, title), form, status, preview, h("div", { class: "ends" }, close));

  function forget() {
    preview.replaceChildren();
    status.textContent = "";
  }

  async function send(more) {
    try {
      return await post(`/api/acts/${name}`, { ...body(), ...more });
    } catch (error) {
      status.textContent = error.message;
      return null;
    }
  }

  async function look(event) {
    event.preventDefault();
    forget();
    const effect = await send({ preview: true });
    if (!effect) return;
    status.textContent = "Nothing is changed yet.";
    const typed = h("input", { autocomplete: "off", spellcheck: "false" });
    const go = h("button", { type: "button", class: confirm ? "danger" : "main", disabled: Boolean(confirm), onclick: () => carryOut(typed.value) }, verb);
    typed.oninput = () => { go.disabled = typed.value !== confirm; };
    preview.replaceChildren(
      ...words(effect),
      h("div", { class: "bar" }, confirm ? field("confirm", `Type ${confirm} to confirm`, typed) : null, go),
    );
    (confirm ? typed : go).focus();
  }

  async function carryOut(typed) {
    const effect = await send({ preview: false, confirm: typed });
    if (!effect) return;
    status.textContent = "Done.";
    form.hidden = true;
    preview.replaceChildren(...words(effect));
    close.focus();
    dialog.addEventListener("close", done);
  }

  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

const shown = (value) => (value === null ? "–" : typeof value === "number" ? count(value) : value);

function words({ says, changes }) {
  const columns = [
    ["What", (change) => change.what],
    ["Before", (change) => shown(change.before), "num"],
    ["After", (change) => shown(change.after), "num"],
  ];
  return [...says.map((text) => h("p", null, text)), ...(changes.length ? [table("Changes", columns, changes)] : [])];
}

const input = (attributes, value = "") => Object.assign(h("input", { autocomplete: "off", ...attributes }), { value });
const select = (pairs) => h("select", null, pairs.map(([value, text]) => h("option", { value }, text)));
const show = (control, on) => { control.closest(".field").hidden = !on; };

export function createTopic(done) {
  const name = input({ required: true, pattern: "[a-zA-Z0-9._\\-]+" });
  const partitions = input({ type: "number", min: 1, required: true }, "1");
  const replicas = input({ type: "number", min: 1, placeholder: "as nodes allow" });
  openAct({
    title: "Create a topic",
    name: "create-topic",
    verb: "Create",
    fields: [field("new-name", "Name", name), field("new-partitions", "Partitions", partitions), field("new-replicas", "Replicas of each", replicas)],
    body: () => ({ topic: name.value, partitions: Number(partitions.value), replication_factor: Number(replicas.value || -1) }),
    done: () => done(name.value),
  });
}

export function changeSetting({ topic, config }, done) {
  const setting = select(Object.keys(config).sort().map((key) => [key, key]));
  const value = input({});
  const reset = h("input", { type: "checkbox" });
  setting.onchange = () => { value.value = String(config[setting.value]); };
  reset.onchange = () => { value.disabled = reset.checked; };
  setting.onchange();
  openAct({
    title: `Change a setting of ${topic}`,
    name: "alter-topic",
    verb: "Change",
    fields: [field("setting", "Setting", setting), field("setting-value", "Value, such as 7d or 512MiB", value), field("setting-reset", "Back to the default", reset)],
    body: () => ({ topic, config: { [setting.value]: reset.checked ? null : value.value } }),
    done,
  });
}

export function addPartitions({ topic, partitions }, done) {
  const wanted = input({ type: "number", min: partitions.length + 1, required: true }, String(partitions.length + 1));
  openAct({
    title: `Add partitions to ${topic}`,
    name: "alter-topic",
    verb: "Add",
    fields: [field("wanted", "Partitions in all", wanted)],
    body: () => ({ topic, partitions: Number(wanted.value) }),
    done,
  });
}

export function deleteRecords({ topic, partitions }, done) {
  const partition = select(partitions.map((each) => [each.partition, `${each.partition}`]));
  const before = input({ type: "number", min: 0, placeholder: "all" });
  openAct({
    title: `Delete records of ${topic}`,
    name: "delete-records",
    verb: "Delete the records",
    confirm: topic,
    fields: [field("of", "Partition", partition), field("before", "Below this offset", before)],
    body: () => ({ topic, partition: Number(partition.value), before: before.value === "" ? -1 : Number(before.value) }),
    done,
  });
}

export function deleteTopic({ topic }, done) {
  openAct({ title: `Delete topic ${topic}`, name: "delete-topic", verb: "Delete the topic", confirm: topic, fields: [], body: () => ({ topic }), done });
}

const TARGETS = [
  ["beginning", "The oldest record"],
  ["end", "The end"],
  ["time_ms", "A time"],
  ["offset", "An offset"],
  ["shift_by", "So many further (below 0: back)"],
];

export function resetOffsets({ group, partitions }, done) {
  const topic = select([...new Set(partitions.map((each) => each.topic))].map((each) => [each, each]));
  const to = select(TARGETS);
  const since = input({ type: "datetime-local", step: 1 });
  const number = input({ type: "number" }, "0");
  const timeField = field("to-time", "At or after (this browser's time)", since);
  const numberField = field("to-number", "Number", number);
  to.onchange = () => {
    show(since, to.value === "time_ms");
    show(number, to.value === "offset" || to.value === "shift_by");
  };
  to.onchange();
  const value = () => (to.value === "time_ms" ? new Date(since.value || 0).getTime() : to.value === "offset" || to.value === "shift_by" ? Number(number.value) : true);
  openAct({
    title: `Reset offsets of ${group}`,
    name: "reset-offsets",
    verb: "Reset the offsets",
    confirm: group,
    fields: [field("reset-topic", "Topic", topic), field("to", "To", to), timeField, numberField],
    body: () => ({ group, topic: topic.value, to: { [to.value]: value() } }),
    done,
  });
}

export function deleteGroup({ group }, done) {
  openAct({ title: `Delete group ${group}`, name: "delete-group", verb: "Delete the group", confirm: group, fields: [], body: () => ({ group }), done });
}

export function setPassword(done) {
  const user = input({ required: true });
  const password = input({ type: "password", required: true, autocomplete: "new-password" });
  openAct({
    title: "Create a user, or set a password",
    name: "set-password",
    verb: "Set the password",
    fields: [field("user", "User", user), field("password", "Password", password)],
    body: () => ({ user: user.value, password: password.value }),
    done,
  });
}

export function deleteUser({ user }, done) {
  openAct({ title: `Delete user ${user}`, name: "delete-user", verb: "Delete the user", confirm: user, fields: [], body: () => ({ user }), done });
}

const OPERATIONS = {
  Topic: ["Read", "Write", "Create", "Delete", "Alter", "Describe", "DescribeConfigs", "AlterConfigs", "All"],
  Group: ["Read", "Delete", "Describe", "DescribeConfigs", "AlterConfigs", "All"],
  Cluster: ["Create", "Alter", "Describe", "ClusterAction", "DescribeConfigs", "AlterConfigs", "IdempotentWrite", "All"],
  TransactionalId: ["Write", "Describe", "All"],
};
const same = (texts) => texts.map((text) => [text, text]);

export function addRule(done) {
  const principal = input({ required: true }, "User:");
  const permission = select([["Allow", "may"], ["Deny", "may not"]]);
  const operation = select([]);
  const resource = select(same(Object.keys(OPERATIONS)));
  const name = input({ required: true, placeholder: "* is all" });
  const pattern = select([["Literal", "this name"], ["Prefixed", "names that begin so"]]);
  const host = input({ required: true }, "*");
  const nameField = field("rule-name", "Name", name);
  const patternField = field("rule-pattern", "Means", pattern);
  const isCluster = () => resource.value === "Cluster";
  resource.onchange = () => {
    operation.replaceChildren(...same(OPERATIONS[resource.value]).map(([value, text]) => h("option", { value }, text)));
    nameField.hidden = patternField.hidden = isCluster();
    name.required = !isCluster();
  };
  resource.onchange();
  openAct({
    title: "Add a rule",
    name: "add-rule",
    verb: "Add the rule",
    fields: [
      field("rule-principal", "Principal", principal),
      field("rule-permission", "May or may not", permission),
      field("rule-resource", "Resource", resource),
      field("rule-operation", "Operation", operation),
      nameField,
      patternField,
      field("rule-host", "From this address (* is any)", host),
    ],
    body: () => ({
      rule: {
        principal: principal.value,
        permission: permission.value,
        operation: operation.value,
        resource: resource.value,
        name: isCluster() ? "kafka-cluster" : name.value,
        pattern: isCluster() ? "Literal" : pattern.value,
        host: host.value,
      },
    }),
    done,
  });
}

export function removeRule(rule, done) {
  openAct({ title: "Remove a rule", name: "remove-rule", verb: "Remove the rule", confirm: rule.principal, fields: [], body: () => ({ rule }), done });
}

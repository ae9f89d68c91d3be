// Who may log in, and who may do what.

import { actBar, addRule, deleteUser, removeRule, setPassword } from "./acts.js";
import { get, node } from "./api.js";
import { empty, field, h, pagedTable } from "./elements.js";
import { plural } from "./format.js";

export const access = {
  title: () => "Access",

  async load(_, signal) {
    const [{ users }, { rules }] = await Promise.all(["users", "acls"].map((what) => get(`/api/${what}`, signal)));
    return { users, rules };
  },

  render({ users, rules }, view, again) {
    view.users ??= {};
    view.rules ??= {};
    const filter = h("input", { type: "search", autocomplete: "off", oninput: (event) => { view.filter = event.target.value; view.users.page = view.rules.page = 0; again(); } });
    const has = view.filter ?? "";
    const shownUsers = users.filter(({ user }) => user.includes(has));
    const shownRules = rules.filter((rule) => rule.principal.includes(has) || rule.name.includes(has));
    return [
      h("p", null, STATE[Number(users.length > 0)][Number(rules.length > 0)]),
      actBar(["Create a user, or set a password", () => setPassword(view.reload)], ["Add a rule", () => addRule(view.reload)]),
      users.length + rules.length ? h("div", { class: "bar" }, field("filter", "Users and rules with this in their name", filter)) : null,
      h("h2", null, "Users with a password"),
      shownUsers.length ? pagedTable(plural(shownUsers.length, "user"), userColumns(view), shownUsers, view.users, again) : empty(users.length ? "No user has this in the name." : "There is no user."),
      h("h2", null, "Rules"),
      shownRules.length ? pagedTable(plural(shownRules.length, "rule"), ruleColumns(view), shownRules, view.rules, again) : empty(rules.length ? "No rule has this in principal or name." : "There is no rule."),
    ];
  },
};

const STATE = [
  ["There are no users and no rules: everybody may do everything.", "Who does not show a certificate is User:ANONYMOUS. Rules say who may do what; superusers skip them."],
  ["Who wants to come in logs in. No rule allows anything: only superusers may do something.", "Who wants to come in logs in. Rules say who may do what; a denial wins, and superusers skip all rules."],
];

const button = (text, label, onclick) => h("button", { type: "button", "aria-label": label, onclick }, text);

/** The last column, where something can be changed. */
const acting = (make) => (node.read_only ? [] : [["Act", make]]);

const userColumns = (view) => [
  ["User", (each) => each.user],
  ["Logs in with", (each) => each.mechanisms.join(", ")],
  ...acting((each) => button("Delete", `Delete user ${each.user}`, () => deleteUser(each, view.reload))),
];

const ruleColumns = (view) => [
  ["Principal", (rule) => rule.principal],
  ["May", (rule) => (rule.permission === "Deny" ? h("span", { class: "bad" }, "may not") : "may")],
  ["Operation", (rule) => rule.operation],
  ["Resource", (rule) => rule.resource],
  ["Name", (rule) => (rule.pattern === "Prefixed" ? `${rule.name}…` : rule.name === "*" ? "all" : rule.name)],
  ["From", (rule) => (rule.host === "*" ? "anywhere" : rule.host)],
  ...acting((rule) => button("Remove", `Remove the rule of ${rule.principal}: ${rule.operation} ${rule.resource} ${rule.name}`, () => removeRule(rule, view.reload))),
];

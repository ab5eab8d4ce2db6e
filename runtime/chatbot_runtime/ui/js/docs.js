// /docs: the API reference, drawn from /openapi.json by our own page, since the usual viewers need a CDN or inline scripts.
import { get } from "./api.js";
import { html } from "./html.js";
import { t } from "./i18n.js";
import { run, Shell } from "./shell.js";

let spec = null;
let failed = false;

const nameOf = (ref) => ref.split("/").pop();

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return html`<a href="#schema-${nameOf(schema.$ref)}">${nameOf(schema.$ref)}</a>`;
  if (schema.anyOf) return schema.anyOf.map((item, index) => html`${index ? " | " : ""}${typeOf(item)}`);
  if (schema.type === "array") return html`${typeOf(schema.items)}[]`;
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  return [schema.type ?? "any", schema.format].filter(Boolean).join(" · ");
}

const bodyOf = (part) => Object.entries(part?.content ?? {}).map(([media, { schema }]) => html`<span key=${media}><code>${media}</code> ${typeOf(schema)}</span>`);

const Operation = ({ method, path, operation }) => html`<details class="operation" id=${operation.operationId}>
  <summary><span class="method">${method.toUpperCase()}</span> <code>${path}</code> <span class="what">${(operation.description ?? "").split(/[.;:]\s|\.$/)[0]}</span></summary>
  <p>${operation.description}</p>
  ${operation["x-access"] && html`<p>${t("docs.access")} <strong>${operation["x-access"]}</strong></p>`}
  ${operation.parameters && html`<h4>${t("docs.parameters")}</h4><ul>${operation.parameters.map((item) => html`<li key=${item.name}><code>${item.name}</code> (${item.in}${item.required ? `, ${t("docs.required")}` : ""}) ${typeOf(item.schema)} ${item.description ?? ""}</li>`)}</ul>`}
  ${operation.requestBody && html`<h4>${t("docs.body")}</h4><p>${bodyOf(operation.requestBody)}</p>`}
  <h4>${t("docs.answers")}</h4>
  <ul>${Object.entries(operation.responses).map(([code, answer]) => html`<li key=${code}><strong>${code}</strong> ${answer.description} ${bodyOf(answer)}</li>`)}</ul>
</details>`;

const Schema = ({ name, schema }) => html`<section class="panel" id="schema-${name}"><h3>${name}</h3><p>${schema.description}</p>
  <ul>${Object.entries(schema.properties ?? {}).map(([field, item]) => html`<li key=${field}><code>${field}</code>${schema.required?.includes(field) ? ` (${t("docs.required")})` : ""} ${typeOf(item)} ${item.description ?? ""}</li>`)}</ul></section>`;

function Reference() {
  if (failed) return html`<p class="notice bad" role="alert">${t("docs.failed")}</p>`;
  if (!spec) return html`<p class="notice" role="status">${t("busy")}</p>`;
  return html`<p>${spec.info.description}</p>
    ${Object.entries(spec.paths).flatMap(([path, item]) => Object.entries(item).map(([method, operation]) => html`<${Operation} key=${method + path} method=${method} path=${path} operation=${operation} />`))}
    <h2>${t("docs.schemas")}</h2>
    ${Object.entries(spec.components?.schemas ?? {}).map(([name, schema]) => html`<${Schema} key=${name} name=${name} schema=${schema} />`)}`;
}

let redraw = () => {};
await run("page.docs", (state, rerender) => {
  redraw = rerender;
  return html`<${Shell} page="page.docs" state=${null} rerender=${rerender}><${Reference} /><//>`;
}, { live: false });
try {
  spec = await get("/openapi.json");
} catch {
  failed = true;
}
redraw();

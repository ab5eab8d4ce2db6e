// Binds htm to preact once, so that pages write html`...` instead of a build step.
import { h, render } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export const html = htm.bind(h);
export { render };

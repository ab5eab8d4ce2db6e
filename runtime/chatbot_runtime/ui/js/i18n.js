// Texts in Spanish and English. A missing text shows its key, which a test treats as a failure.
const LANGUAGES = ["es", "en"];
let texts = {};
let language = "en";

function remembered() {
  try {
    return localStorage.getItem("language");
  } catch {
    return null; // storage may be switched off; the browser's language decides then
  }
}

export async function loadTexts(wanted) {
  const asked = wanted || new URLSearchParams(location.search).get("lang") || remembered() || navigator.language.slice(0, 2);
  language = LANGUAGES.includes(asked) ? asked : "en";
  const answer = await fetch(`/ui/i18n/${language}.json`);
  texts = await answer.json();
  document.documentElement.lang = language;
  try {
    localStorage.setItem("language", language);
  } catch {
    // not remembered, and that is all
  }
}

export const currentLanguage = () => language;
export const otherLanguage = () => LANGUAGES.find((item) => item !== language);

// Returns a text with {name} replaced by values.name.
export function t(key, values = {}) {
  const text = texts[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

export const has = (key) => key in texts;

export const number = (value) => new Intl.NumberFormat(language).format(value);

export const clock = (time) =>
  new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false }).format(new Date(time));

export const dateTime = (time) =>
  new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "medium", hour12: false }).format(new Date(time));

// Seconds as "45 s", "3 min 10 s", "2 h 5 min": two units at most.
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (size, unit, rest, smaller) => `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${smaller}` : ""}`;
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(60, "min", whole % 60, "s");
  if (whole < 86400) return two(3600, "h", Math.floor((whole % 3600) / 60), "min");
  return two(86400, "d", Math.floor((whole % 86400) / 3600), "h");
}

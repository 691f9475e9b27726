"use strict";
// The threshold explorer: moves a point along the curves. Without this script the table of thresholds says the same.
(() => {
  const data = JSON.parse(document.getElementById("points").textContent);
  const box = document.getElementById("explorer");
  const slider = box.querySelector("input");
  const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(2)} %` : "–");
  const say = (name, text) => { box.querySelector(`[data-say="${name}"]`).textContent = text; };
  const move = (id, x, y) => {
    const mark = document.getElementById(id);
    if (!mark) return;
    const { left, right, bottom, top } = mark.dataset;
    mark.setAttribute("cx", +left + x * (right - left));
    mark.setAttribute("cy", +bottom + y * (top - bottom));
    mark.setAttribute("visibility", "visible");
  };
  const show = () => {
    const [score, flagged, frauds, value, cards] = data.points[slider.value];
    const legitimate = data.payments - data.frauds;
    say("score", score.toFixed(2));
    say("flagged", `${flagged.toLocaleString("en")} (${share(flagged, data.payments)})`);
    say("cards", cards.toFixed(1));
    say("precision", share(frauds, flagged));
    say("recall", share(frauds, data.frauds));
    say("value", share(value, data.value));
    say("rate", share(flagged - frauds, legitimate));
    say("ratio", frauds ? `${((flagged - frauds) / frauds).toFixed(1)} : 1` : "–");
    move("pr-mark", frauds / data.frauds, frauds / flagged);
    move("roc-mark", (flagged - frauds) / legitimate, frauds / data.frauds);
  };
  slider.max = data.points.length - 1;
  slider.value = data.start;
  slider.addEventListener("input", show);
  box.hidden = false;
  show();
})();

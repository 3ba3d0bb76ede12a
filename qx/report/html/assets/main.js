// Begin: read the data, draw every part that the page has a place for, and make the buttons work.

const THEMES = ["auto", "light", "dark"];

function startTheme() {
  const toggle = document.getElementById("theme");
  let index = 0;
  const set = () => {
    document.documentElement.dataset.theme = THEMES[index];
    toggle.textContent = `Theme: ${THEMES[index]}`;
  };
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    index = (index + 1) % THEMES.length;
    set();
  });
  set();
}

function startCommand() {
  const command = document.getElementById("copy-command");
  command?.addEventListener("click", () => copy(document.getElementById("command").textContent, "The command"));
}

// With several workloads one is shown at a time; each is drawn when it is first shown.
function startWorkloads(data) {
  const roots = [...document.querySelectorAll(".workload")];
  const drawn = new Set();
  const show = (chosen) => {
    roots.forEach((root, index) => {
      root.hidden = index !== chosen;
    });
    if (drawn.has(chosen)) return;
    drawn.add(chosen);
    const board = new Board(data.workloads[chosen], roots[chosen]);
    for (const draw of [drawTable, drawScatter, drawLimits, drawWaves, drawRounds, drawGroups, drawAnswers, drawStages, drawLayers]) draw(board);
  };
  const select = document.getElementById("workload");
  select?.addEventListener("change", () => show(Number(select.value)));
  show(0);
}

const data = JSON.parse(document.getElementById("data").textContent);
startTheme();
startCommand();
if (data.history) drawHistory(data.history);
if (data.kind === "run") startWorkloads(data);
else if (data.kind === "comparison") drawComparison(data);
document.documentElement.dataset.ready = "yes";
// A point that has the focus was perhaps scrolled to: its box stays.
addEventListener("scroll", () => document.activeElement?.closest(".points") || hideTip(), { passive: true });

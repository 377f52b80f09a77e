// Runs before the page is painted, so that a chosen theme does not flash. No choice: the system's.
{
  const known = ["auto", "light", "dark"];
  const names = { auto: "as the system", light: "light", dark: "dark" };
  let chosen = "auto";
  try {
    chosen = localStorage.getItem("heed-theme") ?? "auto";
  } catch {
    // a browser that keeps nothing: the choice lasts as long as the page
  }
  const read = () => (known.includes(chosen) ? chosen : "auto");
  const apply = () => document.documentElement.setAttribute("data-theme", read());
  apply();
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    const name = () => {
      button.setAttribute("aria-label", `Colours: ${names[read()]}. Change`);
      button.title = `Colours: ${names[read()]}`;
    };
    name();
    button.addEventListener("click", () => {
      chosen = known[(known.indexOf(read()) + 1) % known.length];
      try {
        localStorage.setItem("heed-theme", chosen);
      } catch {
        // as above
      }
      apply();
      name();
    });
  });
}

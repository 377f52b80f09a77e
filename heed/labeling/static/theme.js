// Runs before the page is painted, so that a chosen theme does not flash. No choice: the system's.
{
  const known = ["auto", "light", "dark"];
  const names = { auto: "as the system", light: "light", dark: "dark" };
  const read = () => (known.includes(localStorage.getItem("heed-theme")) ? localStorage.getItem("heed-theme") : "auto");
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
      localStorage.setItem("heed-theme", known[(known.indexOf(read()) + 1) % known.length]);
      apply();
      name();
    });
  });
}

// Without a script, or where nothing can be copied, texts are there to be selected, and there is no button.
for (const button of document.querySelectorAll("button[data-copies]")) {
  const source = document.getElementById(button.dataset.copies);
  const told = button.textContent;
  const byHand = () => {
    const selection = window.getSelection();
    selection.selectAllChildren(source);
    const done = document.execCommand("copy");
    selection.removeAllRanges();
    return done;
  };
  button.hidden = false;
  button.addEventListener("click", async () => {
    let done = false;
    try {
      await navigator.clipboard.writeText(source.innerText);
      done = true;
    } catch {
      done = byHand();
    }
    button.textContent = done ? "Copied" : "Select the text and copy it";
    setTimeout(() => { button.textContent = told; }, 2000);
  });
}

// Logs in with the form and comes back as whoever that is: the login is in a cookie that no script reads.
"use strict";
const form = document.querySelector("form");
const alert = form.querySelector("[role=alert]");
form.addEventListener("submit", async (event) => {
    event.preventDefault();
    alert.textContent = "";
    const { username, password } = Object.fromEntries(new FormData(form));
    try {
        const answer = await fetch("/auth/login", {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: JSON.stringify({ username, password }),
        });
        if (answer.ok) {
            location.reload();
            return;
        }
        alert.textContent = (await answer.json()).error.message;
    } catch {
        alert.textContent = "the daemon does not answer";
    }
});

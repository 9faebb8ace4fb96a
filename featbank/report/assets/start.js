document.documentElement.classList.add("scripted");
start();

addEventListener("consent:success",()=>{for(let e of document.querySelectorAll("opencpm-history"))e.reload()});

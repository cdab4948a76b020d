// The widgets for React 17 and 18, which set attributes only and hear no custom events;
// React 19 needs nothing of this: <opencpm-manage template="…" token={…} />.
//
//   import React from "react";
//   import { widgets } from "https://consent.example.com/w/1/react.mjs";
//   const { Manage, History, Capture } = widgets(React);
//   <Manage template="t_8fK2" token={token} onSuccess={(e) => console.log(e.detail)} />
import "./consent.mjs";

const events = { onLoad: "load", onLoadError: "loaderror", onEmpty: "empty", onExpired: "expired", onUpdate: "update", onSubmit: "submit", onSuccess: "success", onFailure: "failure" };

export function widgets(React) {
  const wrap = (tag) => React.forwardRef(function Widget({ children, ...props }, ref) {
    const element = React.useRef(null);
    const latest = React.useRef(props);
    latest.current = props;
    React.useImperativeHandle(ref, () => element.current);
    React.useLayoutEffect(() => { // properties, functions among them
      for (const [name, value] of Object.entries(props)) if (!(name in events)) element.current[name] = value;
    });
    React.useEffect(() => { // one listener for each event, whatever is rendered anew
      const heard = Object.entries(events).map(([name, type]) => ["consent:" + type, (e) => latest.current[name]?.(e)]);
      for (const [type, act] of heard) element.current.addEventListener(type, act);
      const at = element.current;
      return () => { for (const [type, act] of heard) at.removeEventListener(type, act); };
    }, []);
    return React.createElement(tag, { ref: element }, children);
  });
  return { Manage: wrap("opencpm-manage"), History: wrap("opencpm-history"), Capture: wrap("opencpm-capture") };
}

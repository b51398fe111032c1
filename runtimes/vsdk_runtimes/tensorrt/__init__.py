"""TensorRT and TensorRT for RTX: engines built from a bundle where it runs, cached, and run without torch.

`targets.build_engines` makes engines, `session.TensorRtSession` runs them; `docs/jetson.md` is for users.

Networks are strongly typed on every version from 10.3 to 11.x: the types of the graph decide, and the builder chooses
no precision. NVIDIA calls strong typing complete from 10.12 on; the flag is in 10.3 too, and there is no weakly typed
second try, because on TensorRT 11 it does not exist and because an engine of another precision than the one asked for
is the very thing that must not happen unseen. Where 10.3 refuses a graph, its own words are the error.

Checked without a GPU: the parser and the builder of TensorRT for RTX, every name that is called against the bindings of
10.3, 10.13, 10.16, 11.0, 11.4 and RTX 1.7, and the session on a stand-in for driver and library. Nothing in this
package has run on a GPU yet.
"""

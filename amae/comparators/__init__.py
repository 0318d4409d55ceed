"""The systems that the paper compares with, and simple references that it does not.

`methods` has them in one table, `settings` their settings; the other modules train and score. Training is never given a
label. One-class methods under protocol Y treat T_n and T_u, pooled, as normal. docs/comparators.md explains how a
package of its own adds one.
"""

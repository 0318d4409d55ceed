"""Rules that run where Snakemake does, also on a cluster: each takes seconds, and a job waits longer for a node.

Three of them need the internet, which the nodes of many clusters do not have.
"""


localrules:
    list_images,
    index_images,
    list_source,
    index_source,
    fetch_source,
    fetch_weights,
    fetch_encoder,
    import_weights,
    score_detector,
    export_pseudo_labels,
    diagnose_pseudo_labels,
    check_setting,
    measure_comparison,
    compute_metrics,
    summarise_metrics,
    plot_training,
    plot_scores,
    plot_histograms,
    plot_sweep,
    plot_audit,
    plot_pseudo_label_effect,
    plot_backbones,
    tabulate_results,
    tabulate_costs,
    tabulate_transfer,
    write_overview,
    show_table,

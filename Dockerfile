# docker build -t amae .   and then, in the folder of the repository (docs/cluster.md):
# docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD":/amae amae snakemake --cores 1 --resources gpu=1
FROM python:3.12.12-slim-bookworm
WORKDIR /amae
COPY . .
RUN containers/install.sh /opt/amae && rm -rf /root/.cache
# A user without an entry in the image has no home; caches go to /tmp.
ENV PATH=/opt/amae/bin:$PATH HOME=/tmp
CMD ["amae", "--help"]
